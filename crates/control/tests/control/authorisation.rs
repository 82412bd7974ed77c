//! Every operation of the OpenAPI document, with every kind of caller. What a caller may do is read from the document's
//! `security`; an operation that this test cannot call has to stand in `uncovered.txt`, which is empty.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::Reply;
use crate::support::{Client, Plane};

const UNCOVERED: &str = include_str!("uncovered.txt");

/// Security schemes that an operation names; `Nobody` for `{}` and for none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    Nobody,
    Session,
    Player,
    Tenant,
    Operator,
}

pub(crate) struct Operation {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) rights: BTreeSet<Right>,
    /// What a tenant's key has to have.
    pub(crate) needed: Vec<api::access::Right>,
    body: Option<(&'static str, &'static str)>,
}

impl Operation {
    pub(crate) async fn call(&self, client: &Client, path: &str) -> Reply {
        let (client, body) = match self.body {
            Some((media_type, body)) => (client.with("content-type", media_type), body),
            None => (client.clone(), ""),
        };
        client.send(&self.method, path, body).await
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&control::openapi_json()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().cloned().unwrap_or_default();
            let names = security.iter().flat_map(|one| one.as_object().unwrap().keys());
            let mut rights: BTreeSet<Right> = names
                .map(|name| match name.as_str() {
                    "session_token" | "link_token" => Right::Session,
                    "player_token" => Right::Player,
                    "tenant_key" => Right::Tenant,
                    "operator_token" => Right::Operator,
                    other => panic!("{method} {path}: this test does not know the scheme {other}"),
                })
                .collect();
            if security.is_empty() || security.iter().any(|one| one.as_object().unwrap().is_empty()) {
                rights.insert(Right::Nobody);
            }
            let types = operation["requestBody"]["content"].as_object();
            let body = types.map(|types| match types.keys().next().unwrap().as_str() {
                "application/json" => {
                    let body = match path.as_str() {
                        "/v1/sessions/{id}/commands" => r#"{"action": "screenshot"}"#,
                        "/v1/tenants" => r#"{"name": "house"}"#,
                        "/v1/tenants/{tenant}" => r#"{"title": "House"}"#,
                        "/v1/tenants/{tenant}/state" => r#"{"state": "active"}"#,
                        "/v1/keys" => r#"{"name": "builds", "role": "developer"}"#,
                        "/v1/tenants/{tenant}/grant" => r#"{"guarantee": 1}"#,
                        "/v1/pools" => r#"{"app": "pong", "site": "local", "size": 1}"#,
                        "/v1/pools/{id}" => r#"{"size": 1}"#,
                        "/v1/nodes/tokens" => r#"{"site": "paris"}"#,
                        "/v1/nodes/{id}/duty" => r#"{"duty": "active"}"#,
                        "/v1/apps/{app}/channels/{channel}" => r#"{"release": 1}"#,
                        "/v1/apps/{app}/releases/{release}/replicas/{site}" => r#"{"policy": "pinned"}"#,
                        _ => r#"{"app": "pong"}"#,
                    };
                    ("application/json", body)
                }
                "application/sdp" => ("application/sdp", "v=0\r\n"),
                "application/octet-stream" => ("application/octet-stream", "nothing good"),
                "application/x-tar" => ("application/x-tar", "nothing good"),
                other => panic!("{method} {path}: this test does not know the media type {other}"),
            });
            let scopes = security.iter().filter_map(|one| one["tenant_key"].as_array()).flatten();
            let needed = scopes.map(|scope| scope.as_str().unwrap().parse().unwrap()).collect();
            operations.push(Operation { method: method.to_uppercase(), path: path.clone(), rights, needed, body });
        }
    }
    operations
}

async fn call(client: &Client, operation: &Operation, id: &str) -> Reply {
    // A package in a directory is the operator's to upload; any other name is anybody's.
    let app = if operation.path.ends_with("/uploads") { "nobodys" } else { "pong" };
    let path = operation.path.replace("{app}", app).replace("{id}", id).replace("{peer}", "none");
    let path = path.replace("{upload}", "upl_none").replace("{channel}", "beta").replace("{release}", "1");
    let path = path.replace("{site}", "local").replace("{save}", "sav_none").replace("{tenant}", "house");
    let path = path.replace("{command}", "cmd_none").replace("{key}", "key_none");
    operation.call(client, &path).await
}

/// The word of the refusal for want of rights, or "" when the caller got past that.
fn refusal(reply: &Reply) -> String {
    match reply.status {
        401 | 403 => reply.problem(),
        _ => String::new(),
    }
}

/// An expired token of a session that lives in the same database.
async fn expired() -> (Plane, String, String) {
    let short = Plane::start_with(|settings| settings.limits.token_lifetime = Duration::from_millis(1)).await;
    let (id, token) = short.create().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (dir, mut settings, _) = short.stop().await;
    settings.limits.token_lifetime = Duration::from_secs(3600);
    (Plane::start_in(dir, settings).await, id, token)
}

#[tokio::test]
async fn every_operation_is_open_to_whom_the_document_says_and_to_nobody_else() {
    let (plane, expired_id, expired_token) = expired().await;
    let (foreign, foreign_token) = plane.create_ready().await;
    let (_, foreign_player) = plane.create_player().await;
    let operator = plane.operator_token();
    let tenant = plane.create_tenant("studio").await;
    let operations = operations();
    assert!(operations.len() >= 54, "the document is not whole");
    for operation in &operations {
        // Each has a session of its own: one of them ends it.
        let (id, token) = plane.create_ready().await;
        let name = format!("{} {}", operation.method, operation.path);
        let has = |right| operation.rights.contains(&right);
        let is_open = operation.rights == BTreeSet::from([Right::Nobody]);
        let about_session = operation.path.contains("/sessions/{id}");
        let about_player = operation.path.contains("/players/{id}");
        let (player, player_token) = plane.create_player().await;
        let check = async |who: &str, token: Option<&str>, id: &str, expected: &str| {
            let client = token.map_or_else(|| plane.client.clone(), |token| plane.client.with_token(token));
            let id = if about_player { &player } else { id };
            let reply = call(&client, operation, id).await;
            assert_eq!(refusal(&reply), expected, "{name} by {who}: {} {}", reply.status, reply.text());
            if !expected.is_empty() {
                assert_eq!(reply.header("www-authenticate"), if reply.status == 401 { "Bearer" } else { "" }, "{name}");
            }
        };
        let refused = |word: &'static str| if is_open { "" } else { word };
        check("nobody", None, &id, if has(Right::Nobody) { "" } else { "token_missing" }).await;
        let zeros = "0".repeat(64);
        for garbage in [
            "x",
            "kst_",
            &format!("kst_{zeros}"),
            "kpl_",
            &format!("kpl_{zeros}"),
            &format!("ktn_{zeros}"),
            &"y".repeat(4000),
        ] {
            check("garbage", Some(garbage), &id, refused("token_unknown")).await;
        }
        check("an expired token", Some(&expired_token), &expired_id, refused("token_expired")).await;
        check("a foreign token", Some(&foreign_token), &id, refused("forbidden")).await;
        if about_session {
            check("a foreign token, of nothing", Some(&foreign_token), "ses_nonsense", refused("forbidden")).await;
        }
        check("a player", Some(&player_token), &id, if has(Right::Player) { "" } else { refused("forbidden") }).await;
        check("a tenant", Some(&tenant), &id, if has(Right::Tenant) { "" } else { refused("forbidden") }).await;
        check("the operator", Some(&operator), &id, if has(Right::Operator) { "" } else { refused("forbidden") }).await;
        let (id, own) = if operation.method == "DELETE" { plane.create_ready().await } else { (id, token) };
        check("its session", Some(&own), &id, if has(Right::Session) { "" } else { refused("forbidden") }).await;
    }
    let state = plane.session(&foreign, &foreign_token).await["state"]["state"].clone();
    assert_eq!(state, "ready", "nobody touched the foreign session");
    assert_eq!(plane.client.with_token(&foreign_player).get("/v1/players/me").await.status, 200, "nor the player");
}

#[tokio::test]
async fn the_link_takes_the_right_token_among_its_subprotocols_alone() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let (_, foreign) = plane.create_ready().await;
    for (token, status) in
        [("", 401), ("garbage", 401), (foreign.as_str(), 403), (plane.operator_token().as_str(), 403)]
    {
        assert_eq!(plane.client.link(&id, token).await.err(), Some(status), "{token}");
    }
    assert!(plane.client.link(&id, &token).await.is_ok());
    let in_query = plane.client.get(&format!("/v1/sessions/{id}/link?token={token}")).await;
    assert_eq!((in_query.status, in_query.problem().as_str()), (401, "token_missing"), "an address ends up in logs");
}

#[test]
fn no_operation_is_uncovered() {
    assert_eq!(UNCOVERED.trim(), "", "write the test instead");
    let paths: BTreeSet<String> = operations().into_iter().map(|operation| operation.path).collect();
    for path in [
        "/healthz",
        "/v1/apps",
        "/v1/sessions",
        "/v1/sessions/{id}/link",
        "/v1/sessions/{id}/whep/{peer}",
        "/v1/sessions/{id}/commands",
        "/v1/commands",
        "/v1/commands/{command}",
        "/v1/commands/{command}/output",
        "/v1/keys/{key}",
        "/v1/audit",
        "/v1/tenants/{tenant}/state",
        "/v1/players",
        "/v1/players/me",
        "/v1/players/me/plays",
        "/v1/players/{id}",
        "/v1/players/{id}/plays",
    ] {
        assert!(paths.contains(path), "{path} is missing in {paths:?}");
    }
}
