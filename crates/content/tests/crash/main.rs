//! Kills a process that pushes, fetches, captures, restores, removes, collects and compacts, again and again at random moments, and looks each
//! time at what it left: all that is committed is whole, nothing half-written is served, and in the end nothing lies there that nothing needs.
//!
//! The process is this test's own program, run again with a variable that says what to do. Between two of them two days pass: what one left is
//! old to the next, and what that one writes itself is young. `KITE_TEST_SEED` repeats a run; `KITE_TEST_KILLS` says how many.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a test's support fails the test")]

mod books;
mod child;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use content::saves::Archive;
use content::{
    COLLECT_GRACE, CollectOptions, ObjectName, RootId, Store, StoreSettings, Volume, VolumeSettings, collect, scan,
};

use self::books::{Books, Dirs};

const WORK: &str = "KITE_TEST_WORK";
const KILLS: u32 = 200;

/// What a process says when it did a step, and when a collection in it told the database what is condemned: when it begins, when it has found what
/// is to go, when that is gone.
const STEP: u8 = b'.';
const COLLECTION_STEP: u8 = b'c';

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

impl Dirs {
    fn store(&self) -> Store {
        Store::open(&StoreSettings::Local { dir: self.root.join("store") }).unwrap()
    }

    fn volume(&self) -> Volume {
        Volume::open(VolumeSettings::new(self.root.join("volume")), self.store()).unwrap()
    }

    fn live(&self) -> Vec<RootId> {
        [self.committed("release"), self.committed("save")].concat()
    }
}

/// Tells the parent.
fn mark(what: u8) {
    // Not to standard output, where the test program writes of its own.
    let mut out = std::io::stderr();
    out.write_all(&[what]).and_then(|()| out.flush()).unwrap();
}

/// Everything that is committed is whole, and what the volume shows as present is what it has to be.
async fn check(dirs: &Dirs, is_last: bool) {
    let store = dirs.store();
    assert_eq!(content::verify(&store, &dirs.live(), &|_| ()).await.unwrap(), []);
    for release in dirs.committed("release").into_iter().collect::<BTreeSet<_>>() {
        let root = store.root(release).await.unwrap();
        let tree = store.tree(root.tree).await.unwrap();
        let mut chunks = HashMap::new();
        for pack in root.packs {
            let pack = store.pack(pack).await.unwrap();
            chunks.extend(pack.places.iter().map(|place| (place.id, pack.chunk(place).unwrap().bytes)));
        }
        let out = tempfile::tempdir().unwrap();
        content::restore(&tree, out.path(), &mut |id| Ok(chunks[&id].clone())).unwrap();
        // What is served of it.
        let served = dirs.root.join("volume/present").join(release.to_string()).join("files");
        if served.exists() {
            let found = scan(&served, &mut |_| Ok(())).unwrap();
            let content = |tree: &content::Tree| tree.pieces().collect::<Vec<_>>();
            assert_eq!(content(&found), content(&tree), "a copy that is served is not whole");
        }
    }
    let saves = dirs.committed("save");
    let looked_at = if is_last { saves.len() } else { 3 };
    for save in saves.into_iter().rev().take(looked_at) {
        Archive::new(store.clone(), child::key()).read(save).await.unwrap();
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            let to = if entry.file_type().unwrap().is_dir() { &mut open } else { &mut files };
            to.push(entry.path());
        }
    }
    files
}

/// Two days pass for everything in the store.
fn age(dirs: &Dirs) {
    let then = SystemTime::now() - COLLECT_GRACE * 2;
    for file in files(&dirs.root.join("store")) {
        File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
    }
}

/// A collection that nobody kills leaves what is needed and nothing else: no object, and nothing of writers that were killed.
async fn collect_all(dirs: &Dirs) {
    let store = dirs.store();
    age(dirs);
    collect(&store, &Books::open(dirs, || ()), CollectOptions::default(), &|_| ()).await.unwrap();
    let mut needed = BTreeSet::new();
    for id in dirs.live() {
        let root = store.root(id).await.unwrap();
        needed.extend([ObjectName::from(id), root.tree.into()]);
        needed.extend(root.packs.into_iter().map(ObjectName::from));
    }
    let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
    let kind = |file: &Path| name(file.parent().unwrap().parent().unwrap());
    let mut found = files(&dirs.root.join("store"));
    // By which the collector knows the store's time: no object, and no object's staging.
    found.retain(|file| !name(file).starts_with("clock"));
    let found: BTreeSet<String> = found.iter().map(|file| format!("{}/{}", kind(file), name(file))).collect();
    assert_eq!(found, needed.iter().map(ToString::to_string).collect());
    assert_eq!(dirs.condemned(), BTreeSet::new());
}

fn start(dirs: &Dirs, seed: u64) -> (Child, ChildStderr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "whatever_is_killed_when_all_that_was_committed_is_whole", "--nocapture"])
        .env(WORK, &dirs.root)
        .env("KITE_TEST_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = child.stderr.take().unwrap();
    (child, heard)
}

/// Lets a process work for so many steps and a moment more, wherever that is, and kills it.
fn kill_somewhere(dirs: &Dirs, random: &mut Random) {
    let (mut child, mut heard) = start(dirs, random.next());
    // The first collection of a process, which alone has something to remove, takes milliseconds: it would rarely be met by chance.
    let (what, steps, moment_us) = match random.below(3) {
        0 => (COLLECTION_STEP, 1 + random.below(2), 3000),
        _ => (STEP, random.below(12), 30_000),
    };
    let mut said = Vec::new();
    let count = |said: &[u8]| said.iter().filter(|mark| **mark == what).count() as u64;
    while count(&said) < steps {
        let mut mark = [0];
        // Nothing comes of one that ended.
        if heard.read(&mut mark).unwrap() == 0 {
            break;
        }
        said.extend(mark);
    }
    std::thread::sleep(Duration::from_micros(random.below(moment_us)));
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    heard.read_to_end(&mut said).unwrap();
    let is_well = ended.is_none() && said.iter().all(|mark| [STEP, COLLECTION_STEP].contains(mark));
    assert!(is_well, "the process failed by itself: {ended:?} {}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_when_all_that_was_committed_is_whole() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(place) = std::env::var_os(WORK) {
        child::work(&Dirs { root: place.into() }, Random(variable("KITE_TEST_SEED").unwrap())).await;
    }
    let seed = variable("KITE_TEST_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(std::process::id()) ^ now.as_secs()
    });
    let kills = variable("KITE_TEST_KILLS").map_or(KILLS, |kills| u32::try_from(kills).unwrap());
    eprintln!("KITE_TEST_SEED={seed} KITE_TEST_KILLS={kills}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let dirs = Dirs { root: dir.path().to_owned() };
    let started = Instant::now();
    let (mut saves, mut collections) = (Vec::new(), 0);
    for kill in 0..kills {
        kill_somewhere(&dirs, &mut random);
        let known = std::mem::replace(&mut saves, dirs.committed("save"));
        assert!(saves.starts_with(&known), "kill {kill}: a version of a save is lost");
        collections += u32::from(!dirs.condemned().is_empty());
        check(&dirs, false).await;
        age(&dirs);
    }
    check(&dirs, true).await;
    collect_all(&dirs).await;
    check(&dirs, true).await;
    let (replaced, saves) = (dirs.replaced(), saves.len());
    let took_s = started.elapsed().as_secs_f32();
    eprintln!(
        "{kills} kills, {collections} of them in a collection's removal, {replaced} releases compacted, {saves} saves, {took_s:.0} s"
    );
    assert!(
        saves as u32 >= kills / 20 && collections >= kills / 40,
        "too little was done between the kills to say anything"
    );
}
