//! Saves of the player whose token is sent.

use api::id::SaveId;
use api::manifest::AppName;
use api::problem::Problem;
use api::saves::{MAX_SAVE_ARCHIVE_BYTES, SaveList, SavesOf};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonOut, Params, PlayerBytesIn, QueryIn};
use super::problem::Refusal;
use crate::app::access::{Caller, own_player};

/// The player's versions, newest first.
#[utoipa::path(get, path = "/v1/players/me/saves", operation_id = "my_saves", tag = "saves",
    params(SavesOf),
    security(("player_token" = [])),
    responses(
        (status = 200, description = "The versions.", body = SaveList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(
    State(edge): State<Edge>,
    caller: Caller,
    QueryIn(of): QueryIn<SavesOf>,
) -> Result<JsonOut<SaveList>, Refusal> {
    Ok(JsonOut(edge.plane.saves(own_player(&caller)?.id, of.app.as_deref()).await?))
}

/// Erases the player's saves of an app, or of all apps. A game that runs goes on and saves no more.
#[utoipa::path(delete, path = "/v1/players/me/saves", operation_id = "erase_my_saves", tag = "saves",
    params(SavesOf),
    security(("player_token" = [])),
    responses(
        (status = 204, description = "They are erased; the store forgets them within a day."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn erase(
    State(edge): State<Edge>,
    caller: Caller,
    QueryIn(of): QueryIn<SavesOf>,
) -> Result<StatusCode, Refusal> {
    edge.plane.erase_saves(own_player(&caller)?.id, of.app.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Goes back to a version: a new one with the same files follows all others.
#[utoipa::path(post, path = "/v1/players/me/saves/{save}/restore", operation_id = "restore_my_save", tag = "saves",
    params(("save" = SaveId, Path, description = "The version's id.")),
    security(("player_token" = [])),
    responses(
        (status = 200, description = "The versions of this app.", body = SaveList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn restore(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<SaveList>, Refusal> {
    Ok(JsonOut(edge.plane.restore_version(own_player(&caller)?.id, &id).await?))
}

/// A version's files, as tar: `home/…` of the player's home, `base/…` of the package.
#[utoipa::path(get, path = "/v1/players/me/saves/{save}/archive", operation_id = "my_save_archive", tag = "saves",
    params(("save" = SaveId, Path, description = "The version's id.")),
    security(("player_token" = [])),
    responses(
        (status = 200, description = "The archive.", body = Vec<u8>, content_type = "application/x-tar"),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn archive(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<Response<Body>, Refusal> {
    let bytes = edge.plane.save_archive(own_player(&caller)?.id, &id).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-tar"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_DISPOSITION, "attachment; filename=\"save.tar\""),
    ];
    Ok((headers, bytes).into_response())
}

/// Brings an archive as a new version of the save of an app. Versions that are there stay.
#[utoipa::path(post, path = "/v1/players/me/apps/{app}/saves", operation_id = "bring_my_save", tag = "saves",
    params(("app" = AppName, Path, description = "The app's name.")),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    security(("player_token" = [])),
    responses(
        (status = 200, description = "The versions of this app.", body = SaveList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn bring(
    State(edge): State<Edge>,
    caller: Caller,
    Params(app): Params<String>,
    PlayerBytesIn(body): PlayerBytesIn<MAX_SAVE_ARCHIVE_BYTES>,
) -> Result<JsonOut<SaveList>, Refusal> {
    Ok(JsonOut(edge.plane.bring_save(own_player(&caller)?.id, &app, &body).await?))
}
