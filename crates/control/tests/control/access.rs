//! Keys and their roles, tenants and their states, and the record of who changed what.

use std::time::Duration;

use api::clock::UtcTime;
use serde_json::{Value, json};

use crate::authorisation::{Right, operations};
use crate::content::{package_of, release, try_release};
use crate::support::{Client, Plane, until};

async fn key(plane: &Plane, by: &Client, body: &Value) -> (Value, Client) {
    let reply = by.post_json("/v1/keys", body.to_string()).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let json = reply.json();
    let client = plane.client.with_token(json["secret"].as_str().unwrap());
    (json["key"].clone(), client)
}

/// The moment so many seconds from now.
fn in_seconds(seconds: u64) -> UtcTime {
    UtcTime::from_system(std::time::SystemTime::now() + Duration::from_secs(seconds))
}

async fn patch(by: &Client, path: &str, body: &str) -> crate::support::client::Reply {
    by.with("content-type", "application/json").send("PATCH", path, body.to_owned()).await
}

async fn put(by: &Client, path: &str, body: &str) -> crate::support::client::Reply {
    by.with("content-type", "application/json").send("PUT", path, body.to_owned()).await
}

#[tokio::test]
async fn a_key_does_what_its_role_may_do_and_nothing_else() {
    let plane = Plane::start().await;
    let owner = plane.client.with_token(&plane.create_tenant("studio").await);
    for role in api::access::Role::ALL.iter().filter(|role| role.is_of_tenant()) {
        let (_, client) = key(&plane, &owner, &json!({"name": role.word(), "role": role})).await;
        let said = client.get("/v1/bearer").await.json();
        assert_eq!((&said["role"], &said["tenant"]), (&json!(role), &json!("studio")));
        for operation in operations().iter().filter(|operation| operation.rights.contains(&Right::Tenant)) {
            let may = operation.needed.iter().all(|right| role.rights().contains(right));
            let path =
                operation.path.replace("{tenant}", "studio").replace("{app}", "nobodys").replace("{key}", "key_none");
            let path =
                path.replace("{id}", "ses_none").replace("{upload}", "upl_none").replace("{command}", "cmd_none");
            let path = path.replace("{release}", "1").replace("{channel}", "beta").replace("{site}", "local");
            let reply = operation.call(&client, &path).await;
            let is_forbidden = reply.status == 403 && reply.problem() == "forbidden";
            assert_eq!(!is_forbidden, may, "{} {path} as {role}: {} {}", operation.method, reply.status, reply.text());
            if let Some(right) = operation.needed.first().filter(|_| !may) {
                assert!(reply.text().contains(right.word()), "it names what is missing: {}", reply.text());
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_shown_once_expires_is_revoked_and_gives_no_more_than_it_has() {
    let plane = Plane::start().await;
    let owner = plane.client.with_token(&plane.create_tenant("studio").await);
    let (made, client) =
        key(&plane, &owner, &json!({"name": "builds", "role": "developer", "rights": ["apps_read"]})).await;
    assert_eq!(client.get("/v1/bearer").await.json()["rights"], json!(["apps_read"]));
    assert_eq!(client.get("/v1/sessions").await.problem(), "forbidden");
    assert_eq!(client.get("/v1/apps/none/releases").await.problem(), "app_unknown");
    let listed = owner.get("/v1/keys").await;
    assert!(!listed.text().contains("ktn_"), "{}", listed.text());
    let shown = listed.json()["keys"][0].clone();
    assert_eq!((&shown["id"], &shown["name"]), (&made["id"], &json!("builds")));
    assert!(shown["last_used_at"].is_string() && shown["ends_with"].as_str().unwrap().len() == 4, "{shown}");

    let refused = async |by: &Client, body: Value| by.post_json("/v1/keys", body.to_string()).await;
    let keeper = json!({"name": "keeper", "role": "owner", "rights": ["keys", "apps_read"]});
    let (_, keeper) = key(&plane, &owner, &keeper).await;
    let more = refused(&keeper, json!({"name": "x", "role": "developer"})).await;
    assert_eq!((more.status, more.problem().as_str()), (403, "forbidden"), "{}", more.text());
    assert!(more.text().contains("apps_write"));
    for (body, says) in [
        (json!({"name": "x", "role": "operator"}), "none that a tenant's key can have"),
        (json!({"name": "", "role": "owner"}), "`name`"),
        (json!({"name": "x", "role": "finance", "rights": ["keys"]}), "has not the right"),
        (json!({"name": "x", "role": "owner", "expires_in_s": 0}), "expires_in_s"),
        (json!({"name": "x", "role": "chief"}), "unknown variant"),
    ] {
        let reply = refused(&owner, body).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains(says), "{}", reply.text());
    }

    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    assert!(owner.delete(&path).await.json()["revoked_at"].is_string());
    assert_eq!(client.get("/v1/bearer").await.problem(), "token_unknown");
    assert_eq!(owner.delete(&path).await.status, 200, "asking again changes nothing");

    let (_, short) = key(&plane, &owner, &json!({"name": "short", "role": "owner", "expires_in_s": 2})).await;
    let (of_short, _) = key(&plane, &short, &json!({"name": "longer", "role": "owner", "expires_in_s": 3600})).await;
    let ends: UtcTime = serde_json::from_value(of_short["expires_at"].clone()).unwrap();
    assert!(ends <= in_seconds(3), "{ends}");
    // Nor does one that may do less take away another that may do more.
    let of_owner = format!("/v1/keys/{}", owner.get("/v1/bearer").await.json()["key"].as_str().unwrap());
    assert_eq!(keeper.delete(&of_owner).await.problem(), "forbidden");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let expired = short.get("/v1/bearer").await;
    assert_eq!((expired.status, expired.problem().as_str()), (401, "token_expired"));
    assert!(expired.json()["remedy"].as_str().unwrap().contains("new key"));

    let operator = plane.client.with_token(&plane.operator_token());
    let narrowed = json!({"name": "x", "role": "operator", "rights": ["money_read"]});
    let reply = refused(&operator, narrowed).await;
    assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid_request"), "{}", reply.text());
    let (of_operator, second) = key(&plane, &operator, &json!({"name": "on call", "role": "operator"})).await;
    assert_eq!(second.get("/v1/nodes").await.status, 200);
    assert_eq!(
        owner.delete(&format!("/v1/keys/{}", of_operator["id"].as_str().unwrap())).await.problem(),
        "key_unknown"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_configured_suspended_and_closed() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let owner = plane.client.with_token(&plane.create_tenant("studio").await);
    let path = "/v1/tenants/studio";
    let tenant = owner.get(path).await.json();
    assert_eq!((&tenant["state"], &tenant["settings"]["currency"]), (&json!("active"), &json!("EUR")));
    let changed = patch(&owner, path, r#"{"title": "The Studio", "time_zone": "Asia/Tokyo"}"#).await;
    assert_eq!(changed.json()["settings"]["time_zone"], "Asia/Tokyo", "{}", changed.text());
    assert_eq!(patch(&owner, path, r#"{"limits": {}}"#).await.problem(), "forbidden");
    assert_eq!(patch(&owner, path, r#"{"time_zone": "Mars/Base"}"#).await.problem(), "invalid_request");
    let limited = patch(&operator, path, r#"{"limits": {"releases_mb": 1, "sessions_per_player": 1}}"#).await;
    assert_eq!(limited.json()["settings"]["limits"]["releases_mb"], 1);
    assert_eq!(operator.get("/v1/tenants").await.json()["tenants"][0]["settings"]["title"], "The Studio");

    // 1 MiB is less than the package has.
    let package = package_of("tetris");
    std::fs::write(package.path().join("large"), vec![7; 2 << 20]).unwrap();
    let pushed = try_release(&owner, "tetris", package.path()).await;
    assert!(pushed.as_ref().is_err_and(|error| error.contains("you may have 1 MiB")), "{pushed:?}");
    patch(&operator, path, r#"{"limits": {"sessions_per_player": 1}}"#).await;
    release(&owner, "tetris", package.path()).await;
    let (_, player) = plane.create_player().await;
    let player = plane.client.with_token(&player);
    let play = async || player.post_json("/v1/sessions", r#"{"app": "tetris"}"#).await;
    let first = play().await;
    assert_eq!(first.status, 201, "{}", first.text());
    assert_eq!(play().await.problem(), "too_many_sessions");
    // Another player of the same address is another player.
    let (_, second) = plane.create_player().await;
    let second = plane.client.with_token(&second).post_json("/v1/sessions", r#"{"app": "tetris"}"#).await;
    assert_eq!(second.status, 201, "{}", second.text());
    // And this one plays the operator's game beside it.
    assert_eq!(player.post_json("/v1/sessions", r#"{"app": "pong"}"#).await.status, 201);
    let pool = operator.post_json("/v1/pools", r#"{"app": "tetris", "site": "local", "size": 1}"#).await;
    assert_eq!(pool.status, 201, "{}", pool.text());
    let pool = async || operator.get("/v1/pools").await.json()["pools"][0].clone();
    until("an instance is warm", async || pool().await["ready"] == 1).await;

    let state = async |state: &str| {
        let body = json!({"state": state, "reason": "an unpaid invoice"}).to_string();
        put(&operator, "/v1/tenants/studio/state", &body).await
    };
    assert_eq!(state("suspended").await.json()["state"], "suspended");
    assert_eq!(owner.get("/v1/apps/tetris/releases").await.status, 200, "it sees");
    assert_eq!(owner.get("/v1/commands").await.status, 200);
    assert_eq!(owner.get("/v1/keys").await.status, 200);
    let making = owner.post_json("/v1/keys", r#"{"name": "x", "role": "finance"}"#).await;
    assert_eq!(making.problem(), "tenant_suspended");
    until("nothing is warm", async || {
        let pool = pool().await;
        pool["ready"] == 0 && pool["hindered"].as_str().is_some_and(|why| why.contains("suspended"))
    })
    .await;
    let refused = patch(&owner, path, r#"{"title": "x"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "tenant_suspended"), "and changes nothing");
    assert_eq!(owner.post_json("/v1/sessions", r#"{"app": "tetris"}"#).await.problem(), "tenant_suspended");
    let (_, other) = plane.create_player().await;
    let started = plane.client.with_token(&other).post_json("/v1/sessions", r#"{"app": "tetris"}"#).await;
    assert_eq!(started.problem(), "tenant_suspended");
    let (id, token) = (first.json()["session"]["id"].clone(), first.json()["token"].clone());
    let (id, token) = (id.as_str().unwrap(), token.as_str().unwrap());
    assert_eq!(plane.session(id, token).await["state"]["state"], "ready", "what is played goes on");
    assert_eq!(state("active").await.status, 200);
    until("an instance is warm again", async || pool().await["ready"] == 1).await;
    assert_eq!(patch(&owner, path, r#"{"title": "x"}"#).await.status, 200);

    assert_eq!(state("closed").await.json()["state"], "closed");
    assert_eq!(owner.get(path).await.problem(), "token_unknown");
    until("what is played has ended", async || plane.session(id, token).await["state"]["state"] == "ended").await;
    until("all that was played has", async || {
        let sessions = operator.get("/v1/sessions").await.json();
        let of_app = |one: &&Value| one["app"] == "tetris";
        sessions["sessions"].as_array().unwrap().iter().filter(of_app).all(|one| one["state"]["state"] == "ended")
    })
    .await;
    let no_key = operator.post_json("/v1/keys", r#"{"name": "x", "role": "owner", "tenant": "studio"}"#).await;
    assert_eq!(no_key.problem(), "tenant_unknown");
}

#[tokio::test]
async fn who_changed_what_is_on_record() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let secret = plane.create_tenant("studio").await;
    let owner = plane.client.with_token(&secret);
    patch(&owner, "/v1/tenants/studio", r#"{"title": "The Studio"}"#).await;
    put(&operator, "/v1/tenants/studio/grant", r#"{"guarantee": 2, "maximum": 3}"#).await;
    put(&operator, "/v1/tenants/studio/grant", r#"{"guarantee": 5}"#).await;
    let (made, _) = key(&plane, &owner, &json!({"name": "builds", "role": "developer"})).await;
    owner.delete(&format!("/v1/keys/{}", made["id"].as_str().unwrap())).await;
    operator.post_json("/v1/nodes/tokens", r#"{"site": "paris"}"#).await;

    let entries = operator.get("/v1/audit").await.json()["entries"].as_array().unwrap().clone();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = ["key.revoke", "key.create", "tenant.grant", "tenant.grant", "tenant.configure", "tenant.create"];
    assert_eq!(actions.iter().filter(|action| !action.starts_with("node.")).copied().collect::<Vec<_>>(), expected);
    let of = |action: &str| entries.iter().find(|entry| entry["action"] == action).unwrap();
    let configured = of("tenant.configure");
    assert_eq!(configured["actor"]["kind"], "key");
    assert_eq!(configured["actor"]["name"], "first");
    assert_eq!(configured["before"]["settings"]["title"], "studio");
    assert_eq!(configured["after"]["settings"]["title"], "The Studio");
    let granted = of("tenant.grant");
    assert_eq!(granted["actor"], json!({"kind": "operator"}));
    assert_eq!((&granted["before"]["guarantee"], &granted["after"]["guarantee"]), (&json!(2), &json!(5)));
    assert!(of("key.revoke")["before"]["revoked_at"].is_null() && of("key.revoke")["after"]["revoked_at"].is_string());

    // A tenant's own, a page at a time, and no secret anywhere.
    let own = owner.get("/v1/audit?limit=2").await.json()["entries"].as_array().unwrap().clone();
    assert_eq!(own.len(), 2);
    let rest = owner.get(&format!("/v1/audit?before={}", own[1]["id"].as_str().unwrap())).await.json();
    assert_eq!(rest["entries"].as_array().unwrap().len(), 4);
    assert!(!operator.get("/v1/audit?limit=200").await.text().contains("ktn_"));
    assert_eq!(operator.get("/v1/audit?limit=0").await.problem(), "invalid_request");
    // For good.
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    let again = plane.client.with_token(&plane.operator_token()).get("/v1/audit").await.json();
    assert_eq!(again["entries"].as_array().unwrap().len(), entries.len());
}
