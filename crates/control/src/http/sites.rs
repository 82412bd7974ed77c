//! Sites, for who is about to play.

use api::problem::Problem;
use api::rest::SiteList;
use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonOut, Params, Sdp};
use super::guard::Address;
use super::problem::Refusal;
use crate::app::access::Caller;

/// The sites to which a client can measure the way, by name. For those who may create sessions.
#[utoipa::path(get, path = "/v1/sites", operation_id = "list_sites", tag = "sessions",
    security((), ("player_token" = []), ("tenant_key" = ["sessions_write"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The sites.", body = SiteList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<SiteList>, Refusal> {
    Ok(JsonOut(edge.plane.list_sites(&caller)?))
}

/// Connects a client to a machine of a site to measure the way: an SDP offer of one data channel in, the answer out. The channel is called
/// `kite-echo`, unordered and without retransmissions; messages of up to 64 bytes come back as they are, at most 200. The connection ends by itself
/// after ten seconds. For those who may create sessions; an address may ask eight times as often as it may create them.
#[utoipa::path(post, path = "/v1/sites/{site}/probe", operation_id = "probe_site", tag = "sessions",
    params(("site" = String, Path, description = "The site's name.")),
    request_body(content = String, content_type = "application/sdp", description = "The offer, at most 64 KiB."),
    security((), ("player_token" = []), ("tenant_key" = ["sessions_write"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The answer.", body = String, content_type = "application/sdp"),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn probe(
    State(edge): State<Edge>,
    caller: Caller,
    Extension(Address(address)): Extension<Address>,
    Params(site): Params<String>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    // The body is read for those alone who may play.
    edge.plane.may_play(&caller)?;
    let Sdp(offer) = Sdp::from_request(request, &edge).await?;
    let answer = edge.plane.measure(&caller, &address, &site, offer).await?;
    let headers = [(CONTENT_TYPE, "application/sdp"), (CACHE_CONTROL, "no-store")];
    Ok((headers, answer).into_response())
}
