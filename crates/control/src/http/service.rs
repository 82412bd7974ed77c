//! The service itself: health, limits.

use api::problem::Problem;
use api::rest::{Health, ServiceLimits};
use axum::extract::State;

use super::Edge;
use super::extract::JsonOut;
use super::problem::Refusal;

/// Is the service well? Answers 200 as long as it answers at all: running sessions go on while it is degraded.
#[utoipa::path(get, path = "/healthz", operation_id = "health", tag = "service", responses(
    (status = 200, description = "How it is.", body = Health),
    (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn health(State(edge): State<Edge>) -> Result<JsonOut<Health>, Refusal> {
    Ok(JsonOut(edge.plane.health()))
}

/// What this installation allows.
#[utoipa::path(get, path = "/v1/limits", operation_id = "limits", tag = "service", responses(
    (status = 200, description = "The limits.", body = ServiceLimits),
    (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn limits(State(edge): State<Edge>) -> Result<JsonOut<ServiceLimits>, Refusal> {
    Ok(JsonOut(edge.plane.limits().await?))
}
