//! Every operation of the OpenAPI document that a tenant may call, called with what is another tenant's: an operation that this test does not
//! know fails it.

use serde_json::{Value, json};

use crate::authorisation::{Operation, Right, operations};
use crate::content::{package_of, release};
use crate::support::client::Reply;
use crate::support::{Client, Plane};

/// What one tenant has, an example of each.
struct Belongings {
    tenant: &'static str,
    app: &'static str,
    upload: String,
    session: String,
    command: String,
    key: String,
}

async fn belongings(plane: &Plane, owner: &Client) -> Belongings {
    release(owner, "tetris", package_of("tetris").path()).await;
    let upload = owner.send("POST", "/v1/apps/tetris/uploads", "").await.json()["upload"].clone();
    let session = owner.post_json("/v1/sessions", r#"{"app": "tetris"}"#).await.json()["session"]["id"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let session = text(&session);
    let path = format!("/v1/sessions/{session}/commands");
    let command = owner.post_json(&path, r#"{"action": "stop"}"#).await.json()["id"].clone();
    let key =
        owner.post_json("/v1/keys", r#"{"name": "builds", "role": "developer"}"#).await.json()["key"]["id"].clone();
    assert_eq!(plane.client.get("/v1/apps/tetris").await.status, 200);
    let (upload, command, key) = (text(&upload), text(&command), text(&key));
    Belongings { tenant: "victim", app: "tetris", upload, session, command, key }
}

/// The path with the other one's things in it; none for an operation that names nothing.
fn foreign_path(operation: &Operation, of: &Belongings) -> Option<String> {
    // Sites are the operator's, and everybody's to measure.
    if operation.path.starts_with("/v1/sites/") {
        return None;
    }
    let id = if operation.path.starts_with("/v1/sessions/") { of.session.as_str() } else { "" };
    let values = [
        ("{tenant}", of.tenant),
        ("{app}", of.app),
        ("{upload}", &of.upload),
        ("{command}", &of.command),
        ("{key}", &of.key),
        ("{id}", id),
        ("{release}", "1"),
        ("{channel}", "stable"),
        ("{site}", "local"),
    ];
    let mut path = operation.path.clone();
    for (name, value) in values {
        assert!(!path.contains(name) || !value.is_empty(), "{}: this test has no {name} for it", operation.path);
        path = path.replace(name, value);
    }
    assert!(!path.contains('{'), "{}: this test does not know what stands there", operation.path);
    (path != operation.path).then_some(path)
}

/// The same path with things that nobody has.
fn nowhere(path: &str, of: &Belongings) -> String {
    let none = |id: &str| format!("{}_{}", id.split('_').next().unwrap(), "0".repeat(32));
    let mut path = path.replace(of.app, "atlantis").replace(&format!("/tenants/{}", of.tenant), "/tenants/nemo");
    for id in [&of.upload, &of.session, &of.command, &of.key] {
        path = path.replace(id.as_str(), &none(id));
    }
    path
}

/// All that a tenant can be seen to have, and what it is to be afterwards.
async fn seen(owner: &Client, of: &Belongings) -> Value {
    // How it is doing changes by itself.
    let session = owner.get(&format!("/v1/sessions/{}", of.session)).await.json()["id"].clone();
    let keys = owner.get("/v1/keys").await.json()["keys"].as_array().unwrap().len();
    json!({
        "session": session,
        "tenant": owner.get("/v1/tenants/victim").await.json(),
        "releases": owner.get("/v1/apps/tetris/releases").await.json(),
        "channels": owner.get("/v1/apps/tetris/channels").await.json(),
        "upload": owner.get(&format!("/v1/uploads/{}/known", of.upload)).await.status,
        "keys": keys,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_sees_or_changes_what_is_another_ones() {
    let plane = Plane::start().await;
    let owner = plane.client.with_token(&plane.create_tenant("victim").await);
    let stranger = plane.client.with_token(&plane.create_tenant("stranger").await);
    let of = belongings(&plane, &owner).await;
    let before = seen(&owner, &of).await;
    let secrets = [&of.upload, &of.session, &of.command, &of.key];
    let (mut named, mut lists) = (0, 0);
    for operation in operations().iter().filter(|operation| operation.rights.contains(&Right::Tenant)) {
        let name = format!("{} {}", operation.method, operation.path);
        let Some(path) = foreign_path(operation, &of) else {
            // It names nothing: what it lists or makes is the caller's own.
            let reply = operation.call(&stranger, &operation.path).await;
            let text = reply.text();
            assert!(!secrets.iter().any(|secret| text.contains(*secret)), "{name} tells of another tenant: {text}");
            lists += 1;
            continue;
        };
        let reply = operation.call(&stranger, &path).await;
        assert!(matches!(reply.status, 403 | 404), "{name}: {} {}", reply.status, reply.text());
        if reply.status == 404 {
            // As what does not exist, word for word.
            let nothing = operation.call(&stranger, &nowhere(&path, &of)).await;
            let words = |reply: &Reply, app: &str, tenant: &str| {
                let json = reply.json();
                let text = format!("{} {}", json["type"], json["detail"]);
                text.replace(app, "APP").replace(tenant, "TENANT")
            };
            let (got, expected) = (words(&reply, of.app, of.tenant), words(&nothing, "atlantis", "nemo"));
            assert_eq!((got, reply.status), (expected, nothing.status), "{name}");
        }
        assert!(!reply.text().contains("victim") || operation.path.contains("{tenant}"), "{name}: {}", reply.text());
        named += 1;
    }
    assert!(named >= 18 && lists >= 5, "{named} and {lists}: the document is not whole");
    for (method, path, body) in [
        ("POST", "/v1/keys", r#"{"name": "mine", "role": "owner", "tenant": "victim"}"#),
        ("POST", "/v1/sessions", r#"{"app": "tetris"}"#),
        ("GET", "/v1/audit?tenant=victim", ""),
    ] {
        let reply = stranger.with("content-type", "application/json").send(method, path, body).await;
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
    }
    assert_eq!(seen(&owner, &of).await, before, "nothing of it changed");
}
