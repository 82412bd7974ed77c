//! Sessions.

use api::id::SessionId;
use api::problem::Problem;
use api::rest::{CreateSession, CreatedSession, Session, SessionList, SessionStatistics};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonIn, JsonOut, Params};
use super::guard::Address;
use super::problem::Refusal;
use crate::app::access::Caller;

/// Of W3C Trace Context: what the client's own work belongs to.
pub(super) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Creates a session: of nobody without a token, where guests may play; of a player with his. The operator launches any app, and a tenant its own,
/// for nobody or for the player whom they name. The answer holds the session's token, once.
#[utoipa::path(post, path = "/v1/sessions", operation_id = "create_session", tag = "sessions",
    request_body = CreateSession,
    params(("traceparent" = Option<String>, Header, description = "The trace that the play belongs to (W3C Trace Context).")),
    security((), ("player_token" = []), ("tenant_key" = ["sessions_write"]), ("operator_token" = [])),
    responses(
        (status = 201, description = "The session, with its token.", body = CreatedSession,
            headers(("location" = String, description = "Path of the session."))),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(edge): State<Edge>,
    caller: Caller,
    Extension(Address(address)): Extension<Address>,
    headers: HeaderMap,
    JsonIn(request): JsonIn<CreateSession>,
) -> Result<Response<Body>, Refusal> {
    // What cannot be read begins a trace of its own: nobody is refused for it.
    let trace = headers.get(TRACE_PARENT).and_then(|header| header.to_str().ok()?.parse().ok());
    let created = edge.plane.create_session(&caller, address, request, trace).await;
    let created = created.inspect_err(|problem| edge.plane.observer.metrics.refused(problem))?;
    let location = format!("/v1/sessions/{}", created.session.id);
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, JsonOut(created)).into_response())
}

/// The newest sessions: all for the operator, those of its own apps for a tenant.
#[utoipa::path(get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions",
    security(("tenant_key" = ["sessions_read"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The sessions.", body = SessionList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<SessionList>, Refusal> {
    Ok(JsonOut(edge.plane.list_sessions(&caller).await?))
}

/// One session.
#[utoipa::path(get, path = "/v1/sessions/{id}", operation_id = "session", tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("session_token" = []), ("tenant_key" = ["sessions_read"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The session.", body = Session),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Session>, Refusal> {
    Ok(JsonOut(edge.plane.session_seen_by(caller, &id).await?.view()))
}

/// Ends a session. Asking again changes nothing.
#[utoipa::path(delete, path = "/v1/sessions/{id}", operation_id = "end_session", tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("session_token" = []), ("operator_token" = [])),
    responses(
        (status = 200, description = "The session as it is now: stopping or ended.", body = Session),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn end(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Session>, Refusal> {
    Ok(JsonOut(edge.plane.end_session_by(caller, &id).await?))
}

/// How the stream of a session is doing.
#[utoipa::path(get, path = "/v1/sessions/{id}/statistics", operation_id = "session_statistics", tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("session_token" = []), ("operator_token" = [])),
    responses(
        (status = 200, description = "The newest figures.", body = SessionStatistics),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn statistics(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<SessionStatistics>, Refusal> {
    let record = edge.plane.session_for(caller, &id).await?;
    Ok(JsonOut(edge.plane.session_statistics(&record)))
}
