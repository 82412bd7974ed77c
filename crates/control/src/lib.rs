//! Control plane: REST API, session links, placement, catalogue, portal files.
//!
//! `http/` (one file a noun) asks `app/`, which decides and asks `store/`, the only place with SQL. `coordinator/` holds what
//! lives as long as the process: the node links, who watches which session. `dispatch/` drives the scheduler, `reconcile/` makes what is
//! equal to what shall be.
//!
//! Deliberately absent: media (it never passes through here), the GPU, Wayland, processes.

#![expect(clippy::result_large_err, reason = "a problem is the rare way out, and moved a few times a request")]

mod app;
mod coordinator;
mod database;
mod demand;
mod dispatch;
mod http;
mod journey;
pub mod keeper;
mod metrics;
mod observer;
mod reconcile;
mod serve;
mod settings;
mod stop;
mod store;

pub use self::database::{DatabaseSettings, DatabaseUrl, DatabaseUrlError};
pub use self::serve::{OPERATOR_TOKEN_FILE, Running, ServeError, migrate, serve};
pub use self::settings::{Limits, Settings};

/// The OpenAPI document, as `/openapi.json` serves it and `docs/openapi.json` holds it.
#[must_use]
pub fn openapi_json() -> String {
    http::openapi_json()
}
