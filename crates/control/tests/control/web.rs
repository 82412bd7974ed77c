//! The web page's files.

use crate::support::Plane;

async fn plane() -> Plane {
    Plane::start_with(|settings| {
        let dir = settings.data_dir.parent().unwrap().join("web");
        for (name, text) in [
            ("index.html", "<!doctype html><title>Kite</title>"),
            ("assets/app-1234.js", "export {};"),
            ("icon.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
            (".kite-sources", "hidden"),
        ] {
            std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.join(name), text).unwrap();
        }
        std::fs::write(dir.parent().unwrap().join("secret.txt"), "secret").unwrap();
        settings.web_dir = Some(dir);
    })
    .await
}

#[tokio::test]
async fn the_page_comes_with_a_policy_that_lets_it_load_nothing_from_elsewhere() {
    let plane = plane().await;
    for path in ["/", "/plays", "/play", "/play/pong", "/play/pong/ses_1?x=y"] {
        let page = plane.client.get(path).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html"), "{path}");
        assert!(page.text().contains("<title>Kite"));
        assert_eq!(page.header("cache-control"), "no-cache");
        let policy = page.header("content-security-policy");
        let host = plane.client.address;
        let connect = format!("connect-src 'self' ws://{host} wss://{host}");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "worker-src 'self' blob:",
            "img-src 'self' data:",
            "frame-ancestors 'none'",
            &connect,
        ] {
            assert!(policy.split("; ").any(|part| part == rule), "{rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
    }
    let script = plane.client.get("/assets/app-1234.js").await;
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript"));
    assert!(script.header("cache-control").contains("immutable"));
    assert_eq!(plane.client.get("/icon.svg").await.header("content-type"), "image/svg+xml");
    assert_eq!(plane.client.send("HEAD", "/", "").await.status, 200);
}

#[tokio::test]
async fn files_outside_of_the_page_are_not_served() {
    let plane = plane().await;
    for path in [
        "/secret.txt",
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/.kite-sources",
        "/assets/",
        "/assets/none.js",
        "/assets",
    ] {
        let reply = plane.client.get(path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (404, "path_unknown"), "{path}");
    }
    let wrong = plane.client.send("POST", "/assets/app-1234.js", "").await;
    assert_eq!((wrong.status, wrong.problem().as_str()), (405, "method_not_allowed"));
}

#[tokio::test]
async fn without_the_page_the_server_says_how_to_build_it() {
    let plane = Plane::start().await;
    let page = plane.client.get("/").await;
    assert_eq!(page.status, 503);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text().contains("./x build"));
    assert_eq!(plane.client.get("/v1/apps").await.status, 200);
}
