//! WHEP (draft-ietf-wish-whep): a player's offer in, the streamer's answer out. No trickle: the offer is complete.

use api::id::SessionId;
use api::problem::Problem;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{Params, Sdp};
use super::problem::Refusal;
use crate::app::access::{Caller, own_session};

/// Connects the player: an SDP offer in, the answer out. An offer that comes before the session is ready waits for it; a
/// second one replaces the first peer.
#[utoipa::path(post, path = "/v1/sessions/{id}/whep", operation_id = "offer", tag = "whep",
    params(("id" = SessionId, Path, description = "The session's id.")),
    request_body(content = String, content_type = "application/sdp", description = "The offer, at most 64 KiB."),
    security(("session_token" = [])),
    responses(
        (status = 201, description = "The answer.", body = String, content_type = "application/sdp",
            headers(("location" = String, description = "Path of the peer."))),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn offer(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    // The body is read for the session's player alone.
    let record = own_session(caller, &id)?;
    let Sdp(offer) = Sdp::from_request(request, &edge).await?;
    let answered = edge.plane.answer_offer(&record, offer).await?;
    let location = format!("/v1/sessions/{}/whep/{}", record.id, answered.peer);
    let headers =
        [(LOCATION, location), (CONTENT_TYPE, "application/sdp".to_owned()), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, answered.sdp).into_response())
}

/// Forgets a peer. The session waits for its player to come back; `DELETE` the session to end it.
#[utoipa::path(delete, path = "/v1/sessions/{id}/whep/{peer}", operation_id = "remove_peer", tag = "whep",
    params(
        ("id" = SessionId, Path, description = "The session's id."),
        ("peer" = String, Path, description = "The peer, from the answer's Location."),
    ),
    security(("session_token" = [])),
    responses(
        (status = 204, description = "It is forgotten."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove(
    State(edge): State<Edge>,
    caller: Caller,
    Params((id, peer)): Params<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let record = own_session(caller, &id)?;
    edge.plane.remove_peer(&record, &peer)?;
    Ok(StatusCode::NO_CONTENT)
}
