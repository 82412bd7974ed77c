//! The fleet, for the operator.

use api::fleet::{CreateJoinToken, CreatedJoinToken, DemandList, ForgottenDemands, Node, NodeList, Placement, SetDuty};
use api::id::{NodeId, SessionId};
use api::problem::Problem;
use api::rest::Session;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonIn, JsonOut, Params};
use super::problem::Refusal;
use crate::app::access::{Caller, own_session};

/// All nodes, the oldest first.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "fleet",
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The nodes.", body = NodeList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn nodes(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<NodeList>, Refusal> {
    Ok(JsonOut(edge.plane.list_nodes(&caller).await?))
}

/// What sessions of apps take, as far as it was learnt.
#[utoipa::path(get, path = "/v1/demands", operation_id = "list_demands", tag = "fleet",
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "What was learnt.", body = DemandList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn demands(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<DemandList>, Refusal> {
    Ok(JsonOut(edge.plane.list_demands(&caller).await?))
}

/// Forgets what was learnt of an app's sessions: it is learnt anew. For titles that were measured while something was wrong.
#[utoipa::path(delete, path = "/v1/demands/{app}", operation_id = "forget_demands", tag = "fleet",
    params(("app" = String, Path, description = "The app's name.")),
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "How much was forgotten; nothing when nothing was known.", body = ForgottenDemands),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn forget_demands(
    State(edge): State<Edge>,
    caller: Caller,
    Params(app): Params<String>,
) -> Result<JsonOut<ForgottenDemands>, Refusal> {
    Ok(JsonOut(edge.plane.forget_demands(&caller, &app).await?))
}

/// Makes a token by which one machine may join, within an hour.
#[utoipa::path(post, path = "/v1/nodes/tokens", operation_id = "create_join_token", tag = "fleet",
    request_body = CreateJoinToken,
    security(("operator_token" = [])),
    responses(
        (status = 201, description = "The token. It is shown once.", body = CreatedJoinToken),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create_join_token(
    State(edge): State<Edge>,
    caller: Caller,
    JsonIn(request): JsonIn<CreateJoinToken>,
) -> Result<Response<Body>, Refusal> {
    let created = edge.plane.create_join_token(&caller, request).await?;
    let headers = [(CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, JsonOut(created)).into_response())
}

/// Changes what a node is used for: cordon, drain, retire, or take back.
#[utoipa::path(put, path = "/v1/nodes/{id}/duty", operation_id = "set_duty", tag = "fleet",
    params(("id" = NodeId, Path, description = "The node's id.")),
    request_body = SetDuty,
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The node as it is now.", body = Node),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn set_duty(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    JsonIn(request): JsonIn<SetDuty>,
) -> Result<JsonOut<Node>, Refusal> {
    Ok(JsonOut(edge.plane.set_duty(&caller, &id, request.duty).await?))
}

/// Where a session is, or how its wait stands, and what each site said.
#[utoipa::path(get, path = "/v1/sessions/{id}/placement", operation_id = "session_placement", tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("session_token" = []), ("operator_token" = [])),
    responses(
        (status = 200, description = "Its place.", body = Placement),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn placement(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Placement>, Refusal> {
    let record = edge.plane.session_for(caller, &id).await?;
    Ok(JsonOut(edge.plane.placement(&record)))
}

/// Takes the place that is offered to a session that waited. Changes nothing in other states.
#[utoipa::path(post, path = "/v1/sessions/{id}/accept", operation_id = "accept_offer", tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("session_token" = [])),
    responses(
        (status = 200, description = "The session as it is now.", body = Session),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn accept(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Session>, Refusal> {
    let record = own_session(caller, &id)?;
    Ok(JsonOut(edge.plane.accept_offer(record.id).await?))
}
