//! Keys, who bears one, and the record of changes.

use api::access::{AuditList, AuditPage, Bearer, CreateKey, CreatedKey, Key, KeyList};
use api::id::KeyId;
use api::problem::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonIn, JsonOut, Params, QueryIn};
use super::problem::Refusal;
use crate::app::access::{Caller, who};

/// Who the bearer of the sent key is, and what it may do.
#[utoipa::path(get, path = "/v1/bearer", operation_id = "bearer", tag = "access",
    security(("tenant_key" = []), ("operator_token" = [])),
    responses(
        (status = 200, description = "Who he is.", body = Bearer),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn bearer(caller: Caller) -> Result<JsonOut<Bearer>, Refusal> {
    Ok(JsonOut(who(&caller)?))
}

/// Keys, the newest first: all for the operator, a tenant's own for its owners. Also those that are revoked or expired.
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "access",
    security(("tenant_key" = ["keys"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The keys, without their secrets.", body = KeyList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<KeyList>, Refusal> {
    Ok(JsonOut(edge.plane.list_keys(&caller).await?))
}

/// Makes a key, which may do no more than the key that asks.
#[utoipa::path(post, path = "/v1/keys", operation_id = "create_key", tag = "access",
    request_body = CreateKey,
    security(("tenant_key" = ["keys"]), ("operator_token" = [])),
    responses(
        (status = 201, description = "The key with its secret, which is shown once.", body = CreatedKey),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(edge): State<Edge>,
    caller: Caller,
    JsonIn(request): JsonIn<CreateKey>,
) -> Result<Response<Body>, Refusal> {
    let created = edge.plane.create_key(&caller, request).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], JsonOut(created)).into_response())
}

/// Makes a key no key any more, at once. Asking again changes nothing.
#[utoipa::path(delete, path = "/v1/keys/{key}", operation_id = "revoke_key", tag = "access",
    params(("key" = KeyId, Path, description = "The key's id.")),
    security(("tenant_key" = ["keys"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The key as it is now.", body = Key),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn revoke(
    State(edge): State<Edge>,
    caller: Caller,
    Params(id): Params<String>,
) -> Result<JsonOut<Key>, Refusal> {
    Ok(JsonOut(edge.plane.revoke_key(&caller, &id).await?))
}

/// Who changed what, the newest first: all for the operator, what is a tenant's for its owners.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit", tag = "access",
    params(AuditPage),
    security(("tenant_key" = ["audit_read"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The changes.", body = AuditList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn audit(
    State(edge): State<Edge>,
    caller: Caller,
    QueryIn(page): QueryIn<AuditPage>,
) -> Result<JsonOut<AuditList>, Refusal> {
    Ok(JsonOut(edge.plane.list_audit(&caller, page).await?))
}
