//! The store on a real S3-compatible server: Garage, which each test starts for itself. `KITE_TEST_S3` is the path of its program; `./x test`
//! builds it once and sets that. Without it these tests do nothing and say so, for whoever runs cargo by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use content::{
    Chunk, CollectOptions, Ledger, Live, ObjectKind, ObjectName, Pack, PackId, Packer, Rate, Root, RootId, Store,
    StoreError, StoreSettings, TreeId, Volume, VolumeSettings, collect, scan, verify,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;

const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BUCKET: &str = "kite";

struct Server {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// `None` where there is no program.
    fn start() -> Option<Server> {
        let Some(program) = std::env::var_os("KITE_TEST_S3").map(PathBuf::from) else {
            eprintln!("skipped: KITE_TEST_S3 does not name Garage's program; ./x test builds it");
            return None;
        };
        assert!(
            program.is_file(),
            "KITE_TEST_S3 is {}, and there is no such file: ./x test builds it",
            program.display()
        );
        let dir = tempfile::tempdir().unwrap();
        let (port, rpc_port) = (free_port(), free_port());
        let settings = format!(
            "metadata_dir = \"{dir}/meta\"\ndata_dir = \"{dir}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc_port}\"\nrpc_public_addr = \"127.0.0.1:{rpc_port}\"\nrpc_secret = \"{SECRET}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{port}\"\n",
            dir = dir.path().display(),
        );
        fs::write(dir.path().join("garage.toml"), settings).unwrap();
        let mut server = Server { program, dir, port, process: None };
        server.run();
        Some(server)
    }

    /// Starts it, the first time or again, and waits until it answers.
    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let process = Command::new(&self.program)
            .arg("-c")
            .arg(self.dir.path().join("garage.toml"))
            .args(["server", "--single-node", "--default-bucket"])
            .envs([
                ("GARAGE_DEFAULT_ACCESS_KEY", KEY),
                ("GARAGE_DEFAULT_SECRET_KEY", SECRET),
                ("GARAGE_DEFAULT_BUCKET", BUCKET),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(60), "the server does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn settings(&self) -> [String; 5] {
        [format!("http://127.0.0.1:{}", self.port), BUCKET.into(), String::new(), KEY.into(), SECRET.into()]
    }

    /// Waits for the bucket, which the server makes after it began to listen.
    async fn store(&self, prefix: &str) -> Store {
        let [endpoint, bucket, _, key, secret] = self.settings();
        let store = open([endpoint, bucket, prefix.into(), key, secret]);
        let begin = Instant::now();
        while let Err(error) = store.now().await {
            assert!(begin.elapsed() < Duration::from_secs(60), "{error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        store
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn open([endpoint, bucket, prefix, access_key_id, secret_access_key]: [String; 5]) -> Store {
    let (endpoint, region) = (Some(endpoint), "garage".to_owned());
    Store::open(&StoreSettings::S3 { endpoint, bucket, prefix, region, access_key_id, secret_access_key }).unwrap()
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn pack(chunks: impl IntoIterator<Item = Chunk>) -> Pack {
    let mut packer = Packer::new().unwrap();
    chunks.into_iter().for_each(|chunk| packer.add(&chunk));
    packer.finish()
}

async fn names(store: &Store, kind: ObjectKind) -> BTreeSet<String> {
    store.list(kind).map_ok(|listed| listed.name.id).try_collect().await.unwrap()
}

/// Puts a directory into the store, as an upload does.
async fn push(store: &Store, package: &Path) -> RootId {
    let mut chunks = Vec::new();
    let tree = scan(package, &mut |chunk| {
        chunks.push(chunk);
        Ok(())
    });
    let mut packs = Vec::new();
    for some in chunks.chunks(8) {
        let pack = pack(some.iter().cloned());
        packs.push(pack.id);
        store.put_pack(pack.id, pack.bytes).await.unwrap();
    }
    let tree = store.put_tree_bytes(tree.unwrap().encode()).await.unwrap();
    store.put_root(&Root { tree, packs, is_sealed: false }).await.unwrap()
}

fn package(bytes: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data.pak"), noise(bytes, 1)).unwrap();
    fs::write(dir.path().join("readme"), b"hello").unwrap();
    dir
}

#[tokio::test]
async fn objects_are_kept_read_in_parts_listed_and_removed() {
    let Some(server) = Server::start() else { return };
    let store = server.store("a").await;
    let other = server.store("b").await;
    // 90 chunks far enough from each other to need requests of their own, and an index that is longer than the first guess at it.
    let chunks =
        (0..90).map(|seed| Chunk::new(noise(70_000, seed))).chain((0..900).map(|seed| Chunk::new(noise(9, seed))));
    let pack = pack(chunks);
    let name = ObjectName::from(pack.id);
    for _ in 0..2 {
        store.put_pack(pack.id, pack.bytes.clone()).await.unwrap();
    }
    assert_eq!(store.places(pack.id).await.unwrap(), pack.places);
    let wanted: Vec<_> = pack.places.iter().step_by(17).copied().collect();
    let got = store.chunks(pack.id, &wanted).await.unwrap();
    assert_eq!(
        got.iter().map(|chunk| chunk.id).collect::<Vec<_>>(),
        wanted.iter().map(|place| place.id).collect::<Vec<_>>()
    );
    assert!(store.stored(pack.id, &wanted).await.unwrap().bytes() < pack.bytes.len() as u64);
    assert_eq!(store.pack_bytes(pack.id).await.unwrap(), pack.bytes);
    assert!(store.check(&name).await.unwrap());

    let listed: Vec<_> = store.list(ObjectKind::Pack).try_collect().await.unwrap();
    assert_eq!((listed.len(), &listed[0].name, listed[0].bytes), (1, &name, pack.bytes.len() as u64));
    let now = store.now().await.unwrap();
    // A listing tells milliseconds, an answer about one object whole seconds: the clock may seem to be before what it follows.
    let apart = now.duration_since(listed[0].written).unwrap_or_else(|error| error.duration());
    assert!(apart < Duration::from_mins(5), "{apart:?}");
    assert!(names(&other, ObjectKind::Pack).await.is_empty(), "another prefix is another store");
    assert!(matches!(other.pack(pack.id).await, Err(StoreError::Missing(missing)) if missing == name));

    for _ in 0..2 {
        store.remove(&name).await.unwrap();
    }
    assert!(matches!(store.places(pack.id).await, Err(StoreError::Missing(missing)) if missing == name));
    assert!(names(&store, ObjectKind::Pack).await.is_empty());
}

struct Only(RootId);

impl Ledger for Only {
    type Error = std::convert::Infallible;

    async fn live(&self) -> Result<Live, Self::Error> {
        Ok(Live { roots: vec![self.0], ..Live::default() })
    }

    async fn condemn(&self, _names: &[ObjectName]) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn replace(&self, _old: RootId, _new: RootId) -> Result<bool, Self::Error> {
        unreachable!("a collection replaces nothing")
    }
}

#[tokio::test]
async fn a_collection_sees_more_than_one_page_of_a_list() {
    let Some(server) = Server::start() else { return };
    let store = server.store("").await;
    let package = package(100_000);
    let needed = push(&store, package.path()).await;
    // A server gives a thousand names at a time.
    let puts = futures_util::stream::iter(0..1050_u32).map(async |number| {
        let root = Root { tree: TreeId::of(&number.to_le_bytes()), packs: Vec::new(), is_sealed: false };
        store.put_root(&root).await.map(drop)
    });
    puts.buffer_unordered(16).try_collect::<Vec<()>>().await.unwrap();
    assert_eq!(names(&store, ObjectKind::Root).await.len(), 1051);
    let young = collect(&store, &Only(needed), CollectOptions::default(), &|_| ()).await.unwrap();
    assert_eq!((young.removed.objects, young.young.objects), (0, 1053));
    let now = Some(SystemTime::now() + Duration::from_hours(25));
    let options = CollectOptions { now, ..CollectOptions::default() };
    let collected = collect(&store, &Only(needed), options, &|_| ()).await.unwrap();
    assert_eq!((collected.removed.objects, collected.kept.objects), (1050, 3));
    assert_eq!(names(&store, ObjectKind::Root).await, BTreeSet::from([needed.to_string()]));
    assert_eq!(verify(&store, &[needed], &|_| ()).await.unwrap(), []);
}

#[tokio::test]
async fn wrong_settings_are_told_from_each_other() {
    let Some(server) = Server::start() else { return };
    let good = server.store("").await;
    let id = PackId::of(b"missing");
    assert!(matches!(good.pack(id).await, Err(StoreError::Missing(_))));
    let wrong = async |change: &dyn Fn(&mut [String; 5])| {
        let mut settings = server.settings();
        change(&mut settings);
        let store = open(settings);
        let put = store.put_pack(id, b"bytes".to_vec()).await.unwrap_err();
        let listed = store.list(ObjectKind::Pack).try_collect::<Vec<_>>().await.unwrap_err();
        for error in [store.pack(id).await.unwrap_err(), store.now().await.unwrap_err(), listed] {
            assert_eq!(error.to_string(), put.to_string(), "{error:?}");
        }
        put
    };
    let secret = wrong(&|settings| settings[4] = SECRET.replace('0', "1")).await;
    assert!(matches!(secret, StoreError::Refused(_)), "{secret:?}");
    let key = wrong(&|settings| settings[3] = KEY.replace('0', "1")).await;
    assert!(matches!(key, StoreError::Refused(_)), "{key:?}");
    let bucket = wrong(&|settings| settings[1] = "another".into()).await;
    assert!(matches!(bucket, StoreError::NoBucket(_)), "{bucket:?}");
    for error in [secret, key, bucket] {
        assert!(!error.is_about_the_object() && !format!("{error:?}").contains(SECRET), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_filled_from_it_though_the_server_is_killed_meanwhile() {
    let Some(mut server) = Server::start() else { return };
    let store = server.store("games").await;
    let package = package(8_000_000);
    let root = push(&store, package.path()).await;
    let dir = tempfile::tempdir().unwrap();
    // Slow enough for the server to be killed in the middle of it.
    let rate = NonZeroU64::new(2_000_000).map(Rate);
    let settings = VolumeSettings { rate, ..VolumeSettings::new(dir.path().join("volume")) };
    let volume = Volume::open(settings, store.clone()).unwrap();
    let filling = tokio::spawn({
        let volume = volume.clone();
        async move { volume.ensure(root).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!filling.is_finished());
    server.kill();
    let begin = Instant::now();
    let error = filling.await.unwrap().unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(60), "it takes {:?} to say so", begin.elapsed());
    eprintln!("told after {:?}: {error:?}", begin.elapsed());
    let away = store.root(root).await.unwrap_err();
    assert!(matches!(away, StoreError::Failed(_)), "{away:?}");
    server.run();
    let used = volume.ensure(root).await.unwrap();
    for name in ["data.pak", "readme"] {
        assert_eq!(fs::read(used.files().join(name)).unwrap(), fs::read(package.path().join(name)).unwrap());
    }
    assert_eq!(verify(&store, &[root], &|_| ()).await.unwrap(), []);
}
