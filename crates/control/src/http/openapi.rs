//! The OpenAPI document: generated from the handlers and the contract's types, committed as `docs/openapi.json`.

use api::rest::{LinkMessage, LinkRequest};
use axum::body::Body;
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kite",
        description = "Play games that run on a server. Every error is a problem (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "apps", description = "What can be played."),
        (name = "tenants", description = "Customers of the operator."),
        (name = "usage", description = "What was played, and for how long."),
        (name = "access", description = "Keys, and who changed what."),
        (name = "content", description = "Uploads, releases, channels, copies on sites."),
        (name = "saves", description = "Players' saves."),
        (name = "sessions", description = "Plays."),
        (name = "commands", description = "What operators and tenants have done with sessions' instances, and who did."),
        (name = "players", description = "Who plays, and what he played."),
        (name = "whep", description = "The stream's offer and answer."),
        (name = "fleet", description = "Nodes, and what tenants may use of them."),
        (name = "service", description = "The installation.")
    ),
    components(schemas(LinkMessage, LinkRequest))
)]
struct Api;

/// Without the paths, which the router adds.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    let mut document = Api::openapi();
    let bearer = |description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        SecurityScheme::Http(scheme)
    };
    let link = ApiKeyValue::with_description(
        "Sec-WebSocket-Protocol",
        "`kite.token.` and the session's token, as one of the subprotocols beside `kite.link.v1`.",
    );
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("session_token", bearer("Of one session; creating it returns the token."));
    components.add_security_scheme(
        "tenant_key",
        bearer(
            "Of one tenant. What stands beside it is the right that it has to have: GET /v1/bearer says which it has.",
        ),
    );
    components.add_security_scheme("player_token", bearer("Of one player; creating him returns the token."));
    components
        .add_security_scheme("operator_token", bearer("The operator's own, in the data directory, or a key of his."));
    components.add_security_scheme("link_token", SecurityScheme::ApiKey(ApiKey::Header(link)));
    document
}

/// The document as text, written once.
#[derive(Clone, Debug)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        // The document is built from constants: if it could not be written, no test of this crate would pass.
        let mut text = document.to_pretty_json().unwrap_or_default();
        text.push('\n');
        Self(text.into())
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn response(&self) -> Response<Body> {
        ([(CONTENT_TYPE, "application/json")], self.0.clone()).into_response()
    }
}
