//! Pools of warm instances, for the operator.

use api::id::PoolId;
use api::pool::{CreatePool, Pool, PoolList, ResizePool};
use api::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonIn, JsonOut, Params};
use super::problem::Refusal;
use crate::app::access::Caller;

/// All pools, the oldest first, with how many instances are ready.
#[utoipa::path(get, path = "/v1/pools", operation_id = "list_pools", tag = "fleet",
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The pools.", body = PoolList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<PoolList>, Refusal> {
    Ok(JsonOut(edge.plane.list_pools(&caller).await?))
}

/// Keeps instances of an app ready at a site from now on.
#[utoipa::path(post, path = "/v1/pools", operation_id = "create_pool", tag = "fleet",
    request_body = CreatePool,
    security(("operator_token" = [])),
    responses(
        (status = 201, description = "The pool. It is being filled.", body = Pool),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(edge): State<Edge>,
    caller: Caller,
    JsonIn(request): JsonIn<CreatePool>,
) -> Result<Response<Body>, Refusal> {
    let pool = edge.plane.create_pool(&caller, request).await?;
    Ok((StatusCode::CREATED, JsonOut(pool)).into_response())
}

/// Changes how many instances a pool keeps ready.
#[utoipa::path(patch, path = "/v1/pools/{id}", operation_id = "resize_pool", tag = "fleet",
    params(("id" = PoolId, Path, description = "The pool's id.")),
    request_body = ResizePool,
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The pool as it is now.", body = Pool),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn resize(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
    JsonIn(request): JsonIn<ResizePool>,
) -> Result<JsonOut<Pool>, Refusal> {
    Ok(JsonOut(edge.plane.resize_pool(&caller, &id, request).await?))
}

/// Removes a pool. Its instances end, but for those that somebody plays.
#[utoipa::path(delete, path = "/v1/pools/{id}", operation_id = "remove_pool", tag = "fleet",
    params(("id" = PoolId, Path, description = "The pool's id.")),
    security(("operator_token" = [])),
    responses(
        (status = 204, description = "It is gone."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<StatusCode, Refusal> {
    edge.plane.remove_pool(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
