//! The HTTP edge: routes, bodies, headers; one file a noun. Everything that comes in is bounded in size and time.
//!
//! Deliberately absent: decisions; those are `app/`'s.

mod access;
mod apps;
mod commands;
mod content;
mod extract;
mod fleet;
mod guard;
mod link;
mod openapi;
mod players;
mod pools;
mod problem;
pub(crate) mod relay;
mod saves;
pub(crate) mod server;
mod service;
mod sessions;
mod sites;
mod tenants;
mod usage;
mod web;
mod whep;

use std::net::IpAddr;
use std::sync::Arc;

use api::problem::ProblemKind;
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::Refusal;
use crate::app::Plane;
use crate::stop::Stop;

/// What handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) plane: Arc<Plane>,
    /// Raised when open links have to be closed.
    pub(crate) closing: Stop,
}

/// Address of the client's end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

fn api_router() -> OpenApiRouter<Edge> {
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(service::health))
        .routes(routes!(service::limits))
        .routes(routes!(apps::list))
        .routes(routes!(apps::one))
        .routes(routes!(apps::picture))
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::one, sessions::end))
        .routes(routes!(sessions::statistics))
        .routes(routes!(sites::list))
        .routes(routes!(sites::probe))
        .routes(routes!(commands::create, commands::of_session))
        .routes(routes!(commands::list))
        .routes(routes!(commands::one))
        .routes(routes!(commands::output))
        .routes(routes!(fleet::placement))
        .routes(routes!(fleet::accept))
        .routes(routes!(fleet::nodes))
        .routes(routes!(fleet::demands))
        .routes(routes!(fleet::forget_demands))
        .routes(routes!(fleet::create_join_token))
        .routes(routes!(fleet::set_duty))
        .routes(routes!(pools::list, pools::create))
        .routes(routes!(pools::resize, pools::remove))
        .routes(routes!(players::create))
        .routes(routes!(players::me, players::erase_me))
        .routes(routes!(players::my_plays))
        .routes(routes!(players::end_my_session))
        .routes(routes!(players::one, players::erase))
        .routes(routes!(players::plays))
        .routes(routes!(link::open))
        .routes(routes!(whep::offer))
        .routes(routes!(whep::remove))
        .routes(routes!(saves::list, saves::erase))
        .routes(routes!(saves::restore))
        .routes(routes!(saves::archive))
        .routes(routes!(saves::bring))
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::one, tenants::configure))
        .routes(routes!(tenants::set_state))
        .routes(routes!(tenants::set_grant))
        .routes(routes!(access::bearer))
        .routes(routes!(access::list, access::create))
        .routes(routes!(access::revoke))
        .routes(routes!(access::audit))
        .routes(routes!(usage::list))
        .routes(routes!(content::create_upload))
        .routes(routes!(content::known))
        .routes(routes!(content::signatures))
        .routes(routes!(content::parcel))
        .routes(routes!(content::finish))
        .routes(routes!(content::abandon))
        .routes(routes!(content::releases))
        .routes(routes!(content::remove_release))
        .routes(routes!(content::channels))
        .routes(routes!(content::promote))
        .routes(routes!(content::roll_back))
        .routes(routes!(content::replica, content::set_replica))
}

/// The whole server as one router.
pub(crate) fn router(edge: Edge) -> Router {
    let (router, document) = api_router().split_for_parts();
    let document = openapi::Document::new(&document);
    router
        .route("/openapi.json", axum::routing::get(move || std::future::ready(document.response())))
        .merge(web::router(edge.plane.settings.web_dir.as_deref()))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(edge.clone(), guard::guard))
        .with_state(edge)
}

/// The OpenAPI document as it is committed and served.
pub(crate) fn openapi_json() -> String {
    openapi::Document::new(&api_router().split_for_parts().1).text().to_owned()
}

async fn unknown_path(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(100).collect();
    Refusal(ProblemKind::PathUnknown.because(format!("There is nothing at `{path}`.")))
}

async fn wrong_method(method: Method) -> Refusal {
    let method: String = method.as_str().chars().take(20).collect();
    Refusal(ProblemKind::MethodNotAllowed.because(format!("{method} is not offered at this path.")))
}
