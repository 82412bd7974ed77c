//! The committed OpenAPI document is what the program serves.

use std::path::Path;

use crate::support::Plane;

#[tokio::test]
async fn the_openapi_document_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let generated = control::openapi_json();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "docs/openapi.json is stale: run `./x generate`");
    let plane = Plane::start().await;
    let served = plane.client.get("/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.text(), generated);
}
