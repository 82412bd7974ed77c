//! Uploads, releases, channels: with the real client over real HTTP into a real store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::node::PackageSource;
use content::ChunkId;
use content::transfer::{Progress, PushError, Pushed, Remote, RemoteError, push};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, PIXEL, Plane, until};

const MANIFEST: &str =
    "name = \"tetris\"\ntitle = \"Tetris\"\npicture = \"p.png\"\n[launch]\ncommand = [\"<base>/run\"]\n";

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A package of a megabyte.
pub(crate) fn package() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("kite.toml"), MANIFEST).unwrap();
    fs::write(at("p.png"), PIXEL).unwrap();
    fs::write(at("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at("data.pak"), noise(1_000_000, 1)).unwrap();
    dir
}

/// The same of another name.
pub(crate) fn package_of(app: &str) -> TempDir {
    let dir = package();
    fs::write(dir.path().join("kite.toml"), MANIFEST.replace("tetris", app)).unwrap();
    dir
}

struct Sender {
    client: Client,
    upload: String,
    /// Parcels that are still let through.
    parcels: AtomicUsize,
}

fn refused(reply: &crate::support::client::Reply) -> RemoteError {
    RemoteError(format!("{} {}", reply.problem(), reply.json()["detail"]).into())
}

impl Sender {
    async fn post(&self, path: &str, body: Vec<u8>) -> Result<crate::support::client::Reply, RemoteError> {
        let client = self.client.with("content-type", "application/octet-stream");
        let reply = client.send("POST", &format!("/v1/uploads/{}/{path}", self.upload), body).await;
        if reply.status == 200 { Ok(reply) } else { Err(refused(&reply)) }
    }
}

fn ids(value: &Value) -> Vec<ChunkId> {
    value.as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect()
}

impl Remote for Sender {
    async fn signatures(&self, numbers: Vec<u32>) -> Result<Vec<u8>, RemoteError> {
        let reply = self.post("signatures", numbers.into_iter().flat_map(u32::to_le_bytes).collect()).await?;
        Ok(reply.body.to_vec())
    }

    async fn send(&self, parcel: bytes::Bytes) -> Result<Vec<ChunkId>, RemoteError> {
        if self.parcels.fetch_sub(1, Ordering::Relaxed) == 0 {
            // When those before it have arrived.
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            return Err(RemoteError("the line is cut".into()));
        }
        Ok(ids(&self.post("parcels", parcel.to_vec()).await?.json()["refused"]))
    }

    async fn finish(&self, outline: Vec<u8>) -> Result<Result<String, Vec<ChunkId>>, RemoteError> {
        let answer = self.post("finish", outline).await?.json();
        match answer["outcome"].as_str() {
            Some("released") => Ok(Ok(answer["release"].to_string())),
            _ => Ok(Err(ids(&answer["chunks"]))),
        }
    }
}

async fn push_with(client: &Client, app: &str, dir: &Path, parcels: usize) -> (Result<Pushed, PushError>, u64) {
    let created = client.send("POST", &format!("/v1/apps/{app}/uploads"), "").await;
    if created.status != 201 {
        return (Err(refused(&created).into()), 0);
    }
    let upload = created.json()["upload"].as_str().unwrap().to_owned();
    let known = client.get(&format!("/v1/uploads/{upload}/known")).await.body;
    let known: Vec<u64> = known.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    assert_eq!(known.len() as u64, created.json()["known"]);
    let base = usize::try_from(created.json()["base"].as_u64().unwrap()).unwrap();
    let sender = Arc::new(Sender { client: client.clone(), upload, parcels: AtomicUsize::new(parcels) });
    let progress = Arc::new(Progress::default());
    let pushed = push(dir, &known, base, sender, Arc::clone(&progress)).await;
    (pushed, progress.sent_bytes.load(Ordering::Relaxed))
}

/// The release, or why there is none.
pub(crate) async fn try_release(client: &Client, app: &str, dir: &Path) -> Result<Value, String> {
    let (pushed, _) = push_with(client, app, dir, usize::MAX).await;
    pushed.map(|pushed| serde_json::from_str(&pushed.answer).unwrap()).map_err(|error| format!("{error:?}"))
}

pub(crate) async fn release(client: &Client, app: &str, dir: &Path) -> Value {
    serde_json::from_str(&push_with(client, app, dir, usize::MAX).await.0.unwrap().answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_becomes_a_release_that_is_played_and_the_next_sends_the_difference() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let package = package();
    let (first, sent) = push_with(&operator, "tetris", package.path(), usize::MAX).await;
    let first: Value = serde_json::from_str(&first.unwrap().answer).unwrap();
    assert_eq!((&first["number"], &first["channels"]), (&json!(1), &json!(["stable"])));
    assert!(sent > 1_000_000 && sent < 1_010_000, "{sent}");
    assert_eq!(plane.client.get("/v1/apps/tetris").await.json()["title"], "Tetris");
    assert_eq!(plane.client.get("/v1/apps/tetris/picture").await.body, PIXEL);

    let (_, player) = plane.create_player().await;
    let played = plane.client.with_token(&player).post_json("/v1/sessions", r#"{"app": "tetris"}"#).await;
    assert_eq!(played.status, 201, "{}", played.text());
    until("the node hears of it", async || plane.node.read(|script| !script.desired.is_empty())).await;
    let source = plane.node.read(|script| script.desired[0].package.clone());
    let PackageSource::Release { content } = source else { panic!("{source:?}") };
    assert_eq!(content.as_str(), first["content"]);

    let mut bytes = noise(1_000_000, 1);
    bytes[500_000..500_100].copy_from_slice(&noise(100, 2));
    fs::write(package.path().join("data.pak"), bytes).unwrap();
    let (second, sent) = push_with(&operator, "tetris", package.path(), usize::MAX).await;
    let second: Value = serde_json::from_str(&second.unwrap().answer).unwrap();
    assert_eq!((&second["number"], &second["channels"]), (&json!(2), &json!([])));
    assert!(sent < 5_000, "a hundred bytes changed, and {sent} were sent");
    // Players get the first one until somebody says otherwise.
    let promoted = operator
        .with("content-type", "application/json")
        .send("PUT", "/v1/apps/tetris/channels/stable", r#"{"release": 2}"#)
        .await;
    assert_eq!(promoted.json()["channels"][0]["release"], 2);
    let back = operator.send("POST", "/v1/apps/tetris/channels/stable/rollback", "").await;
    assert_eq!(back.json()["channels"][0]["release"], 1);
    let releases = operator.get("/v1/apps/tetris/releases").await.json();
    assert_eq!(releases["releases"].as_array().unwrap().len(), 2);
    let replica =
        operator.post_json("/v1/apps/tetris/releases/2/replicas/local", r#"{"policy": "pinned"}"#).await.json();
    assert_eq!((&replica["policy"], &replica["state"]), (&json!("pinned"), &json!("absent")));

    // All of it outlives a restart.
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(plane.client.get("/v1/apps/tetris/picture").await.body, PIXEL);
    until("the placement is told", async || plane.node.read(|script| script.desired.is_empty())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_broke_goes_on_and_what_arrived_is_not_sent_again() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let package = package();
    fs::write(package.path().join("data.pak"), noise(40_000_000, 3)).unwrap();
    let (broken, _) = push_with(&operator, "tetris", package.path(), 1).await;
    assert!(broken.unwrap_err().to_string().contains("the line is cut"));
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    let operator = plane.client.with_token(&plane.operator_token());
    let (pushed, sent) = push_with(&operator, "tetris", package.path(), usize::MAX).await;
    assert_eq!(pushed.unwrap().bytes, 40_000_000 + (MANIFEST.len() + PIXEL.len() + 10) as u64);
    assert!(sent < 26_000_000, "one parcel of 16 MB had arrived, and {sent} were sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_changes_of_a_large_file_make_a_release_that_can_be_read() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let package = package();
    let mut bytes = noise(60_000_000, 4);
    fs::write(package.path().join("data.pak"), &bytes).unwrap();
    release(&operator, "tetris", package.path()).await;
    // In each of its chunks: a few bytes on the way make more chunks than one pack has.
    for at in (0..bytes.len()).step_by(60_000) {
        bytes[at] ^= 1;
    }
    fs::write(package.path().join("data.pak"), &bytes).unwrap();
    let (pushed, sent) = push_with(&operator, "tetris", package.path(), usize::MAX).await;
    let answer: Value = serde_json::from_str(&pushed.unwrap().answer).unwrap();
    assert!(sent < 6_000_000, "{sent}");
    let store = content::Store::open(&content::StoreSettings::Local { dir: plane.data_dir().join("content") }).unwrap();
    let volume = content::VolumeSettings::new(plane.dir.path().join("volume"));
    let volume = content::Volume::open(volume, store).unwrap();
    let used = volume.ensure(answer["content"].as_str().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(fs::read(used.files().join("data.pak")).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_that_cannot_be_played_are_refused_by_name() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let check = async |app: &str, change: &dyn Fn(&Path), expected: &str| {
        let package = package();
        change(package.path());
        let (pushed, _) = push_with(&operator, app, package.path(), usize::MAX).await;
        let error = pushed.unwrap_err().to_string();
        assert!(error.contains(expected), "`{error}` has no `{expected}`");
    };
    check("tetris", &|dir| fs::remove_file(dir.join("kite.toml")).unwrap(), "has no kite.toml").await;
    check("tetris", &|dir| fs::write(dir.join("kite.toml"), "name = 7").unwrap(), "line 1").await;
    check("other", &|_| {}, "names the app `tetris`").await;
    check("tetris", &|dir| fs::remove_file(dir.join("run")).unwrap(), "has no `run`").await;
    let not_executable = |dir: &Path| fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o644)).unwrap();
    check("tetris", &not_executable, "chmod +x").await;
    check("tetris", &|dir| fs::write(dir.join("p.png"), "<svg>").unwrap(), "is no PNG").await;
    check("tetris", &|dir| std::os::unix::fs::symlink("/etc/passwd", dir.join("x")).unwrap(), "out of the package")
        .await;
    check("Not-A-Name", &|_| {}, "invalid").await;
    assert_eq!(plane.client.get("/v1/apps/tetris").await.problem(), "app_unknown", "nothing became of any");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_neither_sees_nor_gets_what_another_has() {
    let plane = Plane::start().await;
    let (one, two) = (plane.create_tenant("one").await, plane.create_tenant("two").await);
    let (one, two) = (plane.client.with_token(&one), plane.client.with_token(&two));
    let package = package();
    release(&one, "tetris", package.path()).await;
    // Not its releases, not its name.
    assert_eq!(two.get("/v1/apps/tetris/releases").await.problem(), "app_unknown");
    assert_eq!(two.send("POST", "/v1/apps/tetris/uploads", "").await.problem(), "forbidden");
    // The same bytes are unknown to him, and have to be sent whole.
    fs::write(package.path().join("kite.toml"), MANIFEST.replace("tetris", "blocks")).unwrap();
    let (pushed, sent) = push_with(&two, "blocks", package.path(), usize::MAX).await;
    assert!(pushed.is_ok() && sent > 1_000_000, "{sent}");
    // Who knows the names of another's chunks gets none of them: they are missing until they are sent.
    let created = two.send("POST", "/v1/apps/thief/uploads", "").await.json();
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("kite.toml"), MANIFEST.replace("tetris", "thief")).unwrap();
    fs::write(secret.path().join("stolen"), noise(300_000, 99)).unwrap();
    release(&one, "mine", &{
        fs::write(package.path().join("kite.toml"), MANIFEST.replace("tetris", "mine")).unwrap();
        fs::copy(secret.path().join("stolen"), package.path().join("stolen")).unwrap();
        package.path().to_owned()
    })
    .await;
    let sender = Arc::new(Sender {
        client: two.clone(),
        upload: created["upload"].as_str().unwrap().into(),
        parcels: AtomicUsize::new(0),
    });
    let (client, upload) = (one.clone(), sender.upload.clone());
    let outcome = push(secret.path(), &[], 0, sender, Arc::default()).await;
    assert!(outcome.is_err(), "without sending there is no release");
    assert_eq!(
        client.get(&format!("/v1/uploads/{upload}/known")).await.problem(),
        "upload_unknown",
        "nor is his upload another's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_goes_when_nobody_needs_it_and_its_number_is_never_given_again() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let package = package();
    let next = async |seed: u64| {
        fs::write(package.path().join("data.pak"), noise(10_000, seed)).unwrap();
        release(&operator, "tetris", package.path()).await["number"].clone()
    };
    assert_eq!((next(1).await, next(2).await), (json!(1), json!(2)));
    let remove = async |number: u32| operator.send("DELETE", &format!("/v1/apps/tetris/releases/{number}"), "").await;
    let reply = remove(1).await;
    assert_eq!(reply.problem(), "release_in_use");
    assert!(reply.json()["detail"].as_str().unwrap().contains("`stable`"), "{}", reply.text());
    let (_, player) = plane.create_player().await;
    let played = plane.client.with_token(&player).post_json("/v1/sessions", r#"{"app": "tetris"}"#).await;
    assert_eq!(played.status, 201);
    let json = operator.with("content-type", "application/json");
    json.send("PUT", "/v1/apps/tetris/channels/stable", r#"{"release": 2}"#).await;
    let reply = remove(1).await;
    assert!(reply.json()["detail"].as_str().unwrap().contains("1 sessions play"), "{}", reply.text());
    let id = played.json()["session"]["id"].as_str().unwrap().to_owned();
    operator.send("DELETE", &format!("/v1/sessions/{id}"), "").await;
    until("nobody plays it", async || remove(1).await.status == 204).await;
    assert_eq!(remove(1).await.problem(), "release_unknown");
    let left = operator.get("/v1/apps/tetris/releases").await.json();
    assert_eq!(left["releases"].as_array().unwrap().len(), 1);
    let back = operator.send("POST", "/v1/apps/tetris/channels/stable/rollback", "").await;
    assert_eq!(back.problem(), "release_unknown", "there is no way back to what is gone");
    assert_eq!(next(3).await, 3);
    assert_eq!(remove(3).await.status, 204);
    assert_eq!(next(4).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_tenants_sent_is_kept_once_and_both_have_it() {
    let plane = Plane::start().await;
    let mut contents = Vec::new();
    for (tenant, app) in [("one", "tetris"), ("two", "blocks")] {
        let client = plane.client.with_token(&plane.create_tenant(tenant).await);
        let package = package_of(app);
        contents.push(release(&client, app, package.path()).await["content"].clone());
    }
    let (dir, mut settings, _) = plane.stop().await;
    settings.keeper_period = std::time::Duration::from_secs(1);
    let plane = Plane::start_in(dir, settings).await;
    let operator = plane.client.with_token(&plane.operator_token());
    let content = async |app: &str| {
        operator.get(&format!("/v1/apps/{app}/releases")).await.json()["releases"][0]["content"].clone()
    };
    until("one of them lies elsewhere", async || {
        content("tetris").await != contents[0] || content("blocks").await != contents[1]
    })
    .await;
    let store = content::Store::open(&content::StoreSettings::Local { dir: plane.data_dir().join("content") }).unwrap();
    let volume = content::VolumeSettings::new(plane.dir.path().join("volume"));
    let volume = content::Volume::open(volume, store).unwrap();
    for app in ["tetris", "blocks"] {
        let root = content(app).await.as_str().unwrap().parse().unwrap();
        let used = volume.ensure(root).await.unwrap();
        assert_eq!(fs::read(used.files().join("data.pak")).unwrap(), noise(1_000_000, 1));
        until("who starts now is told where", async || {
            let played = plane.client.post_json("/v1/sessions", format!(r#"{{"app": "{app}"}}"#)).await;
            assert_eq!(played.status, 201, "{}", played.text());
            let told = async || {
                plane.node.read(|script| {
                    let told = script.desired.iter().filter(|wish| wish.manifest.name.as_str() == app);
                    told.map(|wish| wish.package.clone()).next_back()
                })
            };
            until("the node hears of it", async || told().await.is_some()).await;
            matches!(told().await, Some(PackageSource::Release { content }) if content.as_str() == root_text(root))
        })
        .await;
    }
}

fn root_text(root: content::RootId) -> String {
    root.to_string()
}
