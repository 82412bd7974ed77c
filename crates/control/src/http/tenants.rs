//! Tenants.

use api::fleet::TenantGrant;
use api::problem::Problem;
use api::tenant::{ConfigureTenant, CreateTenant, CreatedTenant, SetTenantState, Tenant, TenantList};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonIn, JsonOut, Params};
use super::problem::Refusal;
use crate::app::access::Caller;

/// All tenants, by name.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "list_tenants", tag = "tenants",
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The tenants.", body = TenantList),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn list(State(edge): State<Edge>, caller: Caller) -> Result<JsonOut<TenantList>, Refusal> {
    Ok(JsonOut(edge.plane.list_tenants(&caller).await?))
}

/// Makes a tenant. The answer holds the secret of its first key, once.
#[utoipa::path(post, path = "/v1/tenants", operation_id = "create_tenant", tag = "tenants",
    request_body = CreateTenant,
    security(("operator_token" = [])),
    responses(
        (status = 201, description = "The tenant, with its first key.", body = CreatedTenant),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    State(edge): State<Edge>,
    caller: Caller,
    JsonIn(request): JsonIn<CreateTenant>,
) -> Result<Response<Body>, Refusal> {
    let created = edge.plane.create_tenant(&caller, request).await?;
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], JsonOut(created)).into_response())
}

/// One tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", operation_id = "one_tenant", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's name.")),
    security(("tenant_key" = []), ("operator_token" = [])),
    responses(
        (status = 200, description = "The tenant.", body = Tenant),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(
    State(edge): State<Edge>,
    caller: Caller,
    Params(name): Params<String>,
) -> Result<JsonOut<Tenant>, Refusal> {
    Ok(JsonOut(edge.plane.tenant(&caller, &name).await?))
}

/// Changes what is set of a tenant; what is absent stays. Limits are the operator's to set.
#[utoipa::path(patch, path = "/v1/tenants/{tenant}", operation_id = "configure_tenant", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's name.")),
    request_body = ConfigureTenant,
    security(("tenant_key" = ["tenant_write"]), ("operator_token" = [])),
    responses(
        (status = 200, description = "The tenant as it is now.", body = Tenant),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn configure(
    State(edge): State<Edge>,
    caller: Caller,
    Params(name): Params<String>,
    JsonIn(request): JsonIn<ConfigureTenant>,
) -> Result<JsonOut<Tenant>, Refusal> {
    Ok(JsonOut(edge.plane.configure_tenant(&caller, &name, request).await?))
}

/// Suspends a tenant, lifts that, or closes it: then its keys are revoked, and what is played of its apps ends, saved.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/state", operation_id = "set_tenant_state", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's name.")),
    request_body = SetTenantState,
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "The tenant as it is now.", body = Tenant),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn set_state(
    State(edge): State<Edge>,
    caller: Caller,
    Params(name): Params<String>,
    JsonIn(request): JsonIn<SetTenantState>,
) -> Result<JsonOut<Tenant>, Refusal> {
    Ok(JsonOut(edge.plane.set_tenant_state(&caller, &name, request).await?))
}

/// Sets what a tenant may use at once, on all sites together. Sessions that it has already go on.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/grant", operation_id = "set_grant", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's name.")),
    request_body = TenantGrant,
    security(("operator_token" = [])),
    responses(
        (status = 200, description = "What it may use from now on.", body = TenantGrant),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn set_grant(
    State(edge): State<Edge>,
    caller: Caller,
    Params(tenant): Params<String>,
    JsonIn(request): JsonIn<TenantGrant>,
) -> Result<JsonOut<TenantGrant>, Refusal> {
    Ok(JsonOut(edge.plane.set_grant(&caller, &tenant, request).await?))
}
