//! The web page's files, under a policy that lets the page load nothing from elsewhere.

use std::convert::Infallible;
use std::path::Path;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::{Html, IntoResponse};
use axum::routing::{MethodRouter, get, get_service};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::services::{ServeDir, ServeFile};

use super::Edge;
use super::guard::CheckedHost;

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What the page may do with the machine it runs on.
const PERMISSIONS: &str = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), gamepad=(self), \
    fullscreen=(self), autoplay=(self), clipboard-read=(self), clipboard-write=(self)";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Kite</title>\
    <h1>The web page is not built</h1>\
    <p>Kite runs, and its API answers at <a href=\"/v1/apps\">/v1/apps</a>, but there is no web page to show. \
    Build it with <code>./x build</code> and start Kite again, or point <code>--web-dir</code> at a directory with an \
    <code>index.html</code>.</p></html>\n";

/// Routes of the page: its files, and the page itself at `/`, at `/plays` and under `/play/`.
pub(super) fn router(web_dir: Option<&Path>) -> Router<Edge> {
    let Some(dir) = web_dir.filter(|dir| dir.join("index.html").is_file()) else {
        tracing::warn!("the web page is not built: only the API is served");
        let page = || async { (StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)) };
        return pages(get(page)).layer(axum::middleware::from_fn(page_headers));
    };
    let index = get_service(ServeFile::new(dir.join("index.html")));
    let mut router = pages(index);
    // One route a top-level name, so that everything else stays the API's to answer.
    for name in top_level(dir) {
        let file = dir.join(&name);
        if file.is_dir() {
            let files = ServeDir::new(&file).append_index_html_on_directories(false);
            let files = service_fn(move |request: Request| {
                let files = files.clone();
                async move { Ok::<_, Infallible>(files.oneshot(request).await.into_response()) }
            });
            router = router.nest_service(&format!("/{name}"), ServiceBuilder::new().service(files));
        } else if name != "index.html" {
            router = router.route_service(&format!("/{name}"), get_service(ServeFile::new(file)));
        }
    }
    router.layer(axum::middleware::from_fn(page_headers))
}

fn pages(page: MethodRouter<Edge, Infallible>) -> Router<Edge> {
    let pages = Router::new().route("/", page.clone()).route("/plays", page.clone()).route("/saves", page.clone());
    pages.route("/play", page.clone()).route("/play/{*rest}", page)
}

/// Names in the directory that can be a route: built pages have plain ones.
fn top_level(dir: &Path) -> Vec<String> {
    let plain = |name: &String| {
        !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let reserved = ["v1", "play", "plays", "saves", "healthz", "openapi.json"];
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(plain).filter(|name| !reserved.contains(&name.as_str())).collect();
    names.sort();
    names
}

async fn page_headers(
    Extension(CheckedHost(host)): Extension<CheckedHost>,
    request: Request,
    next: axum::middleware::Next,
) -> Response<Body> {
    let hashed = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // Not every browser counts the WebSocket of the same host as 'self'.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
         media-src 'self' blob:; connect-src 'self' ws://{host} wss://{host}; worker-src 'self' blob:; \
         manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    // The build names what is in `assets` by its content; everything else is asked for again each time.
    let cache = if hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}
