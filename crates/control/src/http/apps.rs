//! The catalogue.

use api::manifest::AppName;
use api::problem::Problem;
use api::rest::{App, AppList};
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;

use super::Edge;
use super::extract::{JsonOut, Params};
use super::problem::Refusal;
use crate::app::catalogue;

/// All apps, by title.
#[utoipa::path(get, path = "/v1/apps", operation_id = "list_apps", tag = "apps", responses(
    (status = 200, description = "The apps.", body = AppList),
    (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(edge): State<Edge>) -> JsonOut<AppList> {
    JsonOut(AppList { apps: edge.plane.catalogue.apps() })
}

/// One app.
#[utoipa::path(get, path = "/v1/apps/{app}", operation_id = "app", tag = "apps",
    params(("app" = AppName, Path, description = "The app's name.")),
    responses(
        (status = 200, description = "The app.", body = App),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(State(edge): State<Edge>, Params(name): Params<String>) -> Result<JsonOut<App>, Refusal> {
    let package = edge.plane.catalogue.package(&name)?;
    Ok(JsonOut(catalogue::app(&package)))
}

/// An app's picture: PNG, JPEG or WebP.
#[utoipa::path(get, path = "/v1/apps/{app}/picture", operation_id = "app_picture", tag = "apps",
    params(("app" = AppName, Path, description = "The app's name.")),
    responses(
        (status = 200, description = "The picture.", body = Vec<u8>, content_type = "image/*"),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn picture(State(edge): State<Edge>, Params(name): Params<String>) -> Result<Response<Body>, Refusal> {
    let picture = edge.plane.picture(&name).await?;
    let headers = [
        (CONTENT_TYPE, picture.media_type),
        (CACHE_CONTROL, "public, max-age=300"),
        // Opened by itself, a picture of a package is no page.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    Ok((headers, picture.bytes).into_response())
}
