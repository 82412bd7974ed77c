//! Pages of other origins and names of other hosts.

use crate::support::Plane;

const FRIEND: &str = "https://portal.example.org";

async fn plane() -> Plane {
    Plane::start_with(|settings| settings.allowed_origins = vec![FRIEND.to_owned()]).await
}

#[tokio::test]
async fn only_listed_origins_may_use_the_api() {
    let plane = plane().await;
    let same = format!("http://{}", plane.client.address);
    let own = plane.client.with("origin", &same).get("/v1/apps").await;
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, ""));
    let friend = plane.client.with("origin", FRIEND).get("/v1/apps").await;
    assert_eq!((friend.status, friend.header("access-control-allow-origin")), (200, FRIEND));
    assert!(friend.header("access-control-expose-headers").contains("location"));
    assert!(friend.header("vary").contains("origin"));
    let wrong = plane.client.with("origin", FRIEND).get("/v1/apps/chess").await;
    assert_eq!((wrong.status, wrong.header("access-control-allow-origin")), (404, FRIEND), "problems can be read too");
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let client = plane.client.with("origin", foreign);
        for reply in [client.get("/v1/apps").await, client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await] {
            assert_eq!((reply.status, reply.problem().as_str()), (403, "origin_not_allowed"), "{foreign}");
            assert_eq!(reply.header("access-control-allow-origin"), "");
        }
    }
    assert_eq!(plane.client.get("/v1/limits").await.json()["sessions_used"], 0, "nothing was created");
}

#[tokio::test]
async fn a_preflight_is_answered_for_listed_origins_alone() {
    let plane = plane().await;
    let ask = async |origin: &str| {
        let client = plane.client.with("origin", origin).with("access-control-request-method", "POST");
        client
            .with("access-control-request-headers", "authorization,content-type")
            .send("OPTIONS", "/v1/sessions", "")
            .await
    };
    let friend = ask(FRIEND).await;
    assert_eq!((friend.status, friend.header("access-control-allow-origin")), (204, FRIEND));
    assert!(friend.header("access-control-allow-methods").contains("DELETE"));
    assert!(friend.header("access-control-allow-headers").contains("authorization"));
    let foreign = ask("https://evil.example").await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, ""));
}

#[tokio::test]
async fn a_link_of_a_foreign_page_is_refused() {
    let plane = plane().await;
    let (id, token) = plane.create_ready().await;
    assert_eq!(plane.client.with("origin", "https://evil.example").link(&id, &token).await.err(), Some(403));
    assert!(plane.client.with("origin", FRIEND).link(&id, &token).await.is_ok());
    let same = format!("http://{}", plane.client.address);
    assert!(plane.client.with("origin", &same).link(&id, &token).await.is_ok());
}

#[tokio::test]
async fn a_name_that_was_pointed_here_is_refused() {
    let plane = plane().await;
    let rebound = plane.client.with("host", "evil.example:8080").get("/v1/apps").await;
    assert_eq!((rebound.status, rebound.problem().as_str()), (403, "host_not_allowed"));
    assert_eq!(plane.client.with("host", "localhost:8080").get("/v1/apps").await.status, 200);
}
