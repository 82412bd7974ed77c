//! The keeper without the control plane, as `kite content` runs it: beside it, on the same database.

use control::keeper::{self, KeeperError, Place};

use crate::content::{package, release};
use crate::support::Plane;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keeper_finds_what_the_control_plane_wrote() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    release(&operator, "tetris", package().path()).await;
    let settings = &plane.settings;
    let place = Place {
        data_dir: settings.data_dir.clone(),
        database: settings.database.clone(),
        content: settings.content.clone(),
    };
    let stats = keeper::stats(&place).await.unwrap();
    assert!(stats.logical_bytes > 1_000_000, "{stats:?}");
    assert_eq!(keeper::verify(&place, &|_| {}).await.unwrap(), []);
    let collected = keeper::collect(&place, true, &|_| {}).await.unwrap();
    assert!(collected.young.objects == 3 && collected.removed.objects == 0, "{collected:?}");
    // The roles and locks were given back.
    keeper::collect(&place, false, &|_| {}).await.unwrap();
}

#[tokio::test]
async fn a_data_directory_without_a_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let content = content::StoreSettings::Local { dir: dir.path().join("content") };
    let place = Place { data_dir: dir.path().to_owned(), database: control::DatabaseSettings::Embedded, content };
    let error = keeper::stats(&place).await.unwrap_err();
    assert!(matches!(&error, KeeperError::DataDir { path, .. } if path.ends_with("control.db")), "{error}");
}
