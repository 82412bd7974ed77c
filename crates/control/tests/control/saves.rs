//! Saves: what becomes a version, what a play begins with, what a conflict is. The node's captures are scripted; the store is real.

use api::id::ContentId;
use api::node::{ObservedSave, SaveKind};
use api::saves::SaveFailure;
use api::session::EndReason;
use serde_json::{Value, json};

use crate::support::{Client, Home, Plane, until};

const SAVING: &str =
    "name = \"saving\"\ntitle = \"Saving\"\n[launch]\ncommand = [\"/bin/true\"]\n[saves]\npaths = [\"<home>/saves\"]\n";

fn with_package(home: &Home, concurrent: &str) -> control::Settings {
    let settings = crate::support::settings(home);
    let package = home.path().join("games/saving");
    std::fs::create_dir_all(&package).unwrap();
    std::fs::write(package.join("kite.toml"), format!("{SAVING}concurrent = \"{concurrent}\"\n")).unwrap();
    settings
}

async fn start(concurrent: &str) -> Plane {
    let dir = Home::new();
    let settings = with_package(&dir, concurrent);
    Plane::start_in(dir, settings).await
}

fn content(digit: char) -> ContentId {
    ContentId::try_from(digit.to_string().repeat(64)).unwrap()
}

/// Plays; the session's id.
async fn play(player: &Client, body: Value) -> Result<String, String> {
    let reply = player.post_json("/v1/sessions", body.to_string()).await;
    if reply.status == 201 { Ok(reply.json()["session"]["id"].as_str().unwrap().into()) } else { Err(reply.problem()) }
}

fn index(plane: &Plane, session: &str) -> Option<usize> {
    // Instances and sessions are made together and sort the same way.
    let _ = session;
    plane.node.read(|script| script.instances.len().checked_sub(1))
}

async fn capture(plane: &Plane, index: usize, sequence: u32, digit: char) {
    let saved = ObservedSave {
        sequence,
        content: content(digit),
        bytes: 7,
        files: 1,
        kind: SaveKind::Checkpoint,
        settled: true,
    };
    plane.node.instance(index, |instance| instance.saved = Some(saved));
    until("the node hears that it is a version", async || {
        plane.node.read(|script| {
            script.desired.iter().any(|wish| wish.saves.as_ref().is_some_and(|saves| saves.committed >= sequence))
        })
    })
    .await;
}

async fn versions(player: &Client) -> Vec<Value> {
    player.get("/v1/players/me/saves?app=saving").await.json()["saves"].as_array().unwrap().clone()
}

async fn newest(player: &Client) -> Vec<Value> {
    versions(player).await.into_iter().filter(|version| version["is_newest"] == true).collect()
}

#[tokio::test]
async fn captures_become_a_chain_of_versions_and_the_next_play_begins_with_the_newest() {
    let plane = start("refuse").await;
    let (_, token) = plane.create_player().await;
    let player = plane.client.with_token(&token);
    let session = play(&player, json!({"app": "saving"})).await.unwrap();
    until("the node hears of it", async || index(&plane, &session).is_some()).await;
    assert_eq!(plane.node.read(|script| script.desired[0].saves.as_ref().unwrap().restore.clone()), None);
    assert_eq!(play(&player, json!({"app": "saving"})).await, Err("save_in_use".to_owned()));
    capture(&plane, 0, 1, 'a').await;
    capture(&plane, 0, 3, 'b').await;
    let all = versions(&player).await;
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0]["parents"], &all[1]["parents"]), (&json!([all[1]["id"]]), &json!([])));
    assert_eq!(newest(&player).await, [all[0].clone()]);
    plane.node.end(0, EndReason::GameExited);
    until("the next play is let in", async || play(&player, json!({"app": "saving"})).await.is_ok()).await;
    let begins =
        || plane.node.read(|script| script.desired.iter().filter_map(|wish| wish.saves.clone()?.restore).next_back());
    until("it begins with the newest", async || begins() == Some(content('b'))).await;
    let keys =
        plane.node.read(|script| script.desired.iter().map(|wish| wish.saves.clone().unwrap().key).collect::<Vec<_>>());
    assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; 32]));
    // Who comes without a token keeps nothing, and another player has another key.
    let (_, other) = plane.create_player().await;
    play(&plane.client.with_token(&other), json!({"app": "saving"})).await.unwrap();
    play(&plane.client, json!({"app": "saving"})).await.unwrap();
    until("all are told", async || plane.node.read(|script| script.desired.len() >= 3)).await;
    let saves = plane.node.read(|script| script.desired.iter().map(|wish| wish.saves.clone()).collect::<Vec<_>>());
    assert!(saves.iter().any(Option::is_none));
    assert!(saves.iter().flatten().any(|one| one.key != keys[0] && one.restore.is_none()));
}

#[tokio::test]
async fn two_ways_are_kept_and_the_player_chooses() {
    let plane = start("branch").await;
    let (_, token) = plane.create_player().await;
    let player = plane.client.with_token(&token);
    play(&player, json!({"app": "saving"})).await.unwrap();
    play(&player, json!({"app": "saving"})).await.unwrap();
    until("both are there", async || plane.node.read(|script| script.instances.len() == 2)).await;
    capture(&plane, 0, 1, 'a').await;
    plane.node.instance(1, |instance| {
        let saved = ObservedSave {
            sequence: 1,
            content: content('b'),
            bytes: 7,
            files: 1,
            kind: SaveKind::Final,
            settled: true,
        };
        instance.saved = Some(saved);
    });
    until("both are versions", async || newest(&player).await.len() == 2).await;
    for index in [0, 1] {
        plane.node.end(index, EndReason::GameExited);
    }
    let choices = newest(&player).await;
    assert_eq!(play(&player, json!({"app": "saving"})).await, Err("save_conflict".to_owned()));
    assert_eq!(
        play(&player, json!({"app": "saving", "save": "sav_00000000000000000000000000000001"})).await,
        Err("save_unknown".to_owned())
    );
    let chosen = choices.iter().find(|version| version["kind"] == "final").unwrap();
    play(&player, json!({"app": "saving", "save": chosen["id"]})).await.unwrap();
    let begins = || {
        plane.node.read(|script| {
            script.desired.iter().find(|wish| wish.stop.is_none()).and_then(|wish| wish.saves.clone()?.restore)
        })
    };
    until("it begins with the chosen one", async || begins() == Some(content('b'))).await;
    let last = plane.node.read(|script| script.instances.len() - 1);
    capture(&plane, last, 1, 'c').await;
    let newest = newest(&player).await;
    assert_eq!(newest.len(), 1, "the ways are joined");
    assert_eq!(newest[0]["parents"].as_array().unwrap().len(), 2);
    assert_eq!(versions(&player).await.len(), 3, "and nothing is lost");

    // Back to an older one; another player sees none of it; erased is erased.
    let old = versions(&player).await[2]["id"].as_str().unwrap().to_owned();
    let (_, stranger) = plane.create_player().await;
    let stranger = plane.client.with_token(&stranger);
    assert_eq!(
        stranger.send("POST", &format!("/v1/players/me/saves/{old}/restore"), "").await.problem(),
        "save_unknown"
    );
    assert!(versions(&stranger).await.is_empty());
    let list = player.send("POST", &format!("/v1/players/me/saves/{old}/restore"), "").await.json();
    assert_eq!((list["saves"].as_array().unwrap().len(), &list["saves"][0]["kind"]), (4, &json!("chosen")));
    assert_eq!(player.delete("/v1/players/me/saves?app=saving").await.status, 204);
    assert!(versions(&player).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_is_brought_and_taken_along() {
    let plane = start("refuse").await;
    let (_, token) = plane.create_player().await;
    let player = plane.client.with_token(&token).with("content-type", "application/x-tar");
    let save = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(save.path().join("home/saves")).unwrap();
    std::fs::write(save.path().join("home/saves/slot"), "level 3").unwrap();
    let tar = |dir: &std::path::Path| {
        let made = std::process::Command::new("tar").args(["c", "home"]).current_dir(dir).output().unwrap();
        assert!(made.status.success());
        made.stdout
    };
    let list = player.send("POST", "/v1/players/me/apps/saving/saves", tar(save.path())).await.json();
    let id = list["saves"][0]["id"].as_str().unwrap();
    let taken = player.get(&format!("/v1/players/me/saves/{id}/archive")).await;
    assert_eq!(taken.header("content-type"), "application/x-tar");
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("save.tar"), &taken.body).unwrap();
    let read = std::process::Command::new("tar").args(["xf", "save.tar"]).current_dir(out.path()).status().unwrap();
    assert!(read.success());
    assert_eq!(std::fs::read_to_string(out.path().join("home/saves/slot")).unwrap(), "level 3");
    assert_eq!(player.send("POST", "/v1/players/me/apps/saving/saves", "no tar").await.problem(), "invalid_save");
    assert_eq!(player.send("POST", "/v1/players/me/apps/pong/saves", tar(save.path())).await.problem(), "invalid_save");
    assert_eq!(player.get("/v1/players/me/saves/sav_nonsense/archive").await.problem(), "save_unknown");
}

#[tokio::test]
async fn a_save_that_is_too_large_is_told_the_player() {
    let plane = start("refuse").await;
    let (_, token) = plane.create_player().await;
    let player = plane.client.with_token(&token);
    play(&player, json!({"app": "saving"})).await.unwrap();
    until("the node hears of it", async || index(&plane, "").is_some()).await;
    let sentence = async || player.get("/v1/players/me/plays").await.json()["plays"][0]["sentence"].to_string();
    let failure = SaveFailure::Bytes { found: 300 << 20, limit: 256 << 20 };
    plane.node.instance(0, |instance| instance.save_failure = Some(failure));
    until("he is told", async || sentence().await.contains("it has 300 MiB, and at most 256 are kept")).await;
    plane.node.instance(0, |instance| instance.save_failure = None);
    until("it was kept after all", async || !sentence().await.contains("300 MiB")).await;
    plane.node.instance(0, |instance| instance.save_failure = Some(failure));
    until("he is told again", async || sentence().await.contains("300 MiB")).await;
    plane.node.end(0, EndReason::GameExited);
    until("the end says both", async || {
        let sentence = sentence().await;
        sentence.contains("The game was closed. Your save was not kept") && sentence.contains("300 MiB")
    })
    .await;
}

#[tokio::test]
async fn a_player_ends_his_own_session_wherever_it_is_played() {
    let dir = Home::new();
    let mut settings = with_package(&dir, "refuse");
    settings.limits.sessions_per_player = 1;
    let plane = Plane::start_in(dir, settings).await;
    let (_, token) = plane.create_player().await;
    let (_, other) = plane.create_player().await;
    let (player, other) = (plane.client.with_token(&token), plane.client.with_token(&other));
    let session = play(&player, json!({"app": "saving"})).await.unwrap();
    // Also where he has no other place.
    assert_eq!(play(&player, json!({"app": "saving"})).await, Err("save_in_use".to_owned()));
    let path = format!("/v1/players/me/sessions/{session}");
    for (client, path) in [(&other, path.as_str()), (&player, "/v1/players/me/sessions/nonsense")] {
        assert_eq!(client.send("DELETE", path, "").await.problem(), "session_unknown");
    }
    assert_eq!(plane.client.send("DELETE", &path, "").await.problem(), "token_missing");
    let reply = player.send("DELETE", &path, "").await;
    assert_eq!((reply.status, &reply.json()["state"]["state"]), (200, &json!("stopping")));
    until("he can play again", async || play(&player, json!({"app": "saving"})).await.is_ok()).await;
}
