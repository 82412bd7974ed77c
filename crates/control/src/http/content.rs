//! Uploads, releases, channels, copies on sites.

use api::content::{
    ChannelList, CreatedUpload, MAX_OUTLINE_BYTES, MAX_PARCEL_BYTES, ParcelTaken, ReleaseList, Replica, SetChannel,
    SetReplica, UploadEnd,
};
use api::id::UploadId;
use api::manifest::AppName;
use api::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::Edge;
use super::extract::{BytesIn, JsonIn, JsonOut, Params, QueryIn};
use super::problem::Refusal;
use crate::app::access::Caller;

/// Bytes of a list of numbers of chunks: 1024 of them.
const MAX_NUMBERS_BYTES: usize = 4096;

/// Begins an upload of an app's next release.
#[utoipa::path(post, path = "/v1/apps/{app}/uploads", operation_id = "create_upload", tag = "content",
    params(("app" = AppName, Path, description = "The app's name.")),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 201, description = "The upload.", body = CreatedUpload),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create_upload(
    State(edge): State<Edge>,
    caller: Caller,
    Params(app): Params<String>,
) -> Result<Response<Body>, Refusal> {
    let created = edge.plane.create_upload(&caller, &app).await?;
    Ok((StatusCode::CREATED, JsonOut(created)).into_response())
}

fn octets(bytes: Vec<u8>) -> Response<Body> {
    ([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")], bytes).into_response()
}

/// The first 8 bytes of the name of each chunk that need not be sent.
#[utoipa::path(get, path = "/v1/uploads/{upload}/known", operation_id = "upload_known", tag = "content",
    params(("upload" = UploadId, Path, description = "The upload's id.")),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "8 bytes a chunk.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn known(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<Response<Body>, Refusal> {
    Ok(octets(edge.plane.upload_known(&caller, &id).await?))
}

/// Fine cuts of known chunks, which are named by their numbers in the list, 4 bytes each, lowest byte first.
#[utoipa::path(post, path = "/v1/uploads/{upload}/signatures", operation_id = "upload_signatures", tag = "content",
    params(("upload" = UploadId, Path, description = "The upload's id.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "Signatures.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn signatures(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    BytesIn(body): BytesIn<MAX_NUMBERS_BYTES>,
) -> Result<Response<Body>, Refusal> {
    Ok(octets(edge.plane.upload_signatures(&caller, &id, &body).await?))
}

/// Sends a parcel of chunks. What it brought is kept when this answers.
#[utoipa::path(post, path = "/v1/uploads/{upload}/parcels", operation_id = "upload_parcel", tag = "content",
    params(("upload" = UploadId, Path, description = "The upload's id.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "It was taken.", body = ParcelTaken),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn parcel(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    BytesIn(body): BytesIn<MAX_PARCEL_BYTES>,
) -> Result<JsonOut<ParcelTaken>, Refusal> {
    Ok(JsonOut(edge.plane.upload_parcel(&caller, &id, &body).await?))
}

/// How an upload ends.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Finish {
    /// A channel that shall point to the release from its first moment on.
    channel: Option<String>,
}

/// Ends an upload with the package's outline: it becomes a release, or it is said which chunks are missing.
#[utoipa::path(post, path = "/v1/uploads/{upload}/finish", operation_id = "finish_upload", tag = "content",
    params(("upload" = UploadId, Path, description = "The upload's id."), Finish),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "What became of it.", body = UploadEnd),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn finish(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    QueryIn(query): QueryIn<Finish>,
    BytesIn(body): BytesIn<MAX_OUTLINE_BYTES>,
) -> Result<JsonOut<UploadEnd>, Refusal> {
    Ok(JsonOut(edge.plane.finish_upload(&caller, &id, query.channel, &body).await?))
}

/// Gives an upload up.
#[utoipa::path(delete, path = "/v1/uploads/{upload}", operation_id = "abandon_upload", tag = "content",
    params(("upload" = UploadId, Path, description = "The upload's id.")),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 204, description = "It is given up."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn abandon(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<StatusCode, Refusal> {
    edge.plane.abandon_upload(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An app's releases.
#[utoipa::path(get, path = "/v1/apps/{app}/releases", operation_id = "releases", tag = "content",
    params(("app" = AppName, Path, description = "The app's name.")),
    security(("operator_token" = []), ("tenant_key" = ["apps_read"])),
    responses(
        (status = 200, description = "The releases.", body = ReleaseList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn releases(
    State(edge): State<Edge>,
    caller: Caller,
    Params(app): Params<String>,
) -> Result<JsonOut<ReleaseList>, Refusal> {
    Ok(JsonOut(edge.plane.releases(&caller, &app).await?))
}

/// Removes a release. Refused while a channel points to it or somebody plays it. Its number is never given again.
#[utoipa::path(delete, path = "/v1/apps/{app}/releases/{release}", operation_id = "remove_release", tag = "content",
    params(
        ("app" = AppName, Path, description = "The app's name."),
        ("release" = u32, Path, description = "The release's number."),
    ),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 204, description = "It is removed; the store forgets what nothing else needs within two days."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove_release(
    State(edge): State<Edge>,
    caller: Caller,
    Params((app, release)): Params<(String, String)>,
) -> Result<StatusCode, Refusal> {
    edge.plane.remove_release(&caller, &app, &release).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An app's channels.
#[utoipa::path(get, path = "/v1/apps/{app}/channels", operation_id = "channels", tag = "content",
    params(("app" = AppName, Path, description = "The app's name.")),
    security(("operator_token" = []), ("tenant_key" = ["apps_read"])),
    responses(
        (status = 200, description = "The channels.", body = ChannelList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn channels(
    State(edge): State<Edge>,
    caller: Caller,
    Params(app): Params<String>,
) -> Result<JsonOut<ChannelList>, Refusal> {
    Ok(JsonOut(edge.plane.channels(&caller, &app).await?))
}

/// Points a channel to a release: who starts now gets it.
#[utoipa::path(put, path = "/v1/apps/{app}/channels/{channel}", operation_id = "promote", tag = "content",
    params(
        ("app" = AppName, Path, description = "The app's name."),
        ("channel" = String, Path, description = "The channel's name."),
    ),
    request_body = SetChannel,
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "The channels.", body = ChannelList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn promote(
    State(edge): State<Edge>,
    caller: Caller,
    Params((app, channel)): Params<(String, String)>,
    JsonIn(request): JsonIn<SetChannel>,
) -> Result<JsonOut<ChannelList>, Refusal> {
    Ok(JsonOut(edge.plane.promote(&caller, &app, &channel, request.release).await?))
}

/// Points a channel back to the release before.
#[utoipa::path(post, path = "/v1/apps/{app}/channels/{channel}/rollback", operation_id = "roll_back", tag = "content",
    params(
        ("app" = AppName, Path, description = "The app's name."),
        ("channel" = String, Path, description = "The channel's name."),
    ),
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "The channels.", body = ChannelList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn roll_back(
    State(edge): State<Edge>,
    caller: Caller,
    Params((app, channel)): Params<(String, String)>,
) -> Result<JsonOut<ChannelList>, Refusal> {
    Ok(JsonOut(edge.plane.roll_back(&caller, &app, &channel).await?))
}

/// How a release is doing on a site.
#[utoipa::path(get, path = "/v1/apps/{app}/releases/{release}/replicas/{site}", operation_id = "replica", tag = "content",
    params(
        ("app" = AppName, Path, description = "The app's name."),
        ("release" = u32, Path, description = "The release's number."),
        ("site" = String, Path, description = "The site's name: `local`."),
    ),
    security(("operator_token" = []), ("tenant_key" = ["apps_read"])),
    responses(
        (status = 200, description = "The copy.", body = Replica),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn replica(
    State(edge): State<Edge>,
    caller: Caller,
    Params((app, release, site)): Params<(String, String, String)>,
) -> Result<JsonOut<Replica>, Refusal> {
    Ok(JsonOut(edge.plane.replica(&caller, &app, &release, &site).await?))
}

/// Says how much a release is wanted on a site.
#[utoipa::path(post, path = "/v1/apps/{app}/releases/{release}/replicas/{site}", operation_id = "set_replica", tag = "content",
    params(
        ("app" = AppName, Path, description = "The app's name."),
        ("release" = u32, Path, description = "The release's number."),
        ("site" = String, Path, description = "The site's name: `local`."),
    ),
    request_body = SetReplica,
    security(("operator_token" = []), ("tenant_key" = ["apps_write"])),
    responses(
        (status = 200, description = "The copy.", body = Replica),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn set_replica(
    State(edge): State<Edge>,
    caller: Caller,
    Params((app, release, site)): Params<(String, String, String)>,
    JsonIn(request): JsonIn<SetReplica>,
) -> Result<JsonOut<Replica>, Refusal> {
    Ok(JsonOut(edge.plane.set_replica(&caller, &app, &release, &site, request).await?))
}
