//! Backup, new records, restore: what was backed up is there, and what came later is not.

use crate::support::{Plane, database::TestDatabase};

#[tokio::test]
async fn a_backup_brings_back_what_was_there_and_nothing_later() {
    let plane = Plane::start().await;
    let (old, old_token) = plane.create_player().await;
    let backup = plane.dir.path().join("backup");
    plane.dir.back_up(&backup);
    let (_, new_token) = plane.create_player().await;
    let (mut home, mut settings, _) = plane.stop().await;
    // PostgreSQL's goes into a new database, as the manual has it; SQLite's takes the file's place.
    home.database = TestDatabase::new();
    settings.database = home.database.settings();
    home.restore(&backup);

    let plane = Plane::start_in(home, settings).await;
    let me = plane.client.with_token(&old_token).get("/v1/players/me").await;
    assert_eq!((me.status, me.json()["id"].as_str()), (200, Some(old.as_str())));
    let later = plane.client.with_token(&new_token).get("/v1/players/me").await;
    assert_eq!((later.status, later.problem().as_str()), (401, "token_unknown"));
    plane.create_ready().await;
}
