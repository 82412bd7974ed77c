//! What was played.

use api::problem::Problem;
use api::usage::{UsageList, UsagePage};
use axum::extract::State;

use super::Edge;
use super::extract::{JsonOut, QueryIn};
use super::problem::Refusal;
use crate::app::access::Caller;

/// Sessions that were played, the newest first, each with the intervals that bills are made of. They are kept when the session itself is
/// forgotten.
#[utoipa::path(get, path = "/v1/usage", operation_id = "list_usage", tag = "usage",
    params(UsagePage),
    security(("tenant_key" = ["money_read"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "What was played.", body = UsageList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(
    State(edge): State<Edge>,
    caller: Caller,
    QueryIn(page): QueryIn<UsagePage>,
) -> Result<JsonOut<UsageList>, Refusal> {
    Ok(JsonOut(edge.plane.list_usage(&caller, page).await?))
}
