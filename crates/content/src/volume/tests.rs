//! The volume with a real store in a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::scrub::Leash;
use super::write::is_same_file;
use super::*;
use crate::chunk::Chunk;
use crate::chunk::tests::noise;
use crate::pack::Packer;
use crate::root::Root;
use crate::scan::scan;
use crate::store::{ObjectKind, StoreSettings};
use crate::tree::Tree;

struct Site {
    dir: TempDir,
    store: Store,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreSettings::Local { dir: dir.path().join("store") }).unwrap();
        Site { dir, store }
    }

    fn settings(&self) -> VolumeSettings {
        VolumeSettings::new(self.dir.path().join("volume"))
    }

    fn volume(&self) -> Volume {
        Volume::open(self.settings(), self.store.clone()).unwrap()
    }

    /// Puts the directory into the store, as an upload does.
    async fn push(&self, package: &Path) -> RootId {
        let mut chunks: Vec<Chunk> = Vec::new();
        let tree = scan(package, &mut |chunk| {
            chunks.push(chunk);
            Ok(())
        })
        .unwrap();
        let mut packs = Vec::new();
        let mut packer = Packer::new().unwrap();
        for (index, chunk) in chunks.iter().enumerate() {
            packer.add(chunk);
            if index % 5 == 4 || index + 1 == chunks.len() {
                let pack = packer.finish();
                packs.push(pack.id);
                self.store.put_pack(pack.id, pack.bytes).await.unwrap();
            }
        }
        let tree = self.store.put_tree_bytes(tree.encode()).await.unwrap();
        self.store.put_root(&Root { tree, packs, is_sealed: false }).await.unwrap()
    }
}

/// A package with everything that a tree has.
fn package(seed: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("data/deep")).unwrap();
    fs::write(at("data/same.pak"), noise(900_000, 1)).unwrap();
    let mut packed = noise(1_500_000, 2);
    packed[700_000..700_100].copy_from_slice(&noise(100, seed + 100));
    fs::write(at("data/packed.pak"), packed).unwrap();
    fs::write(at("data/deep/empty"), b"").unwrap();
    fs::write(at("run"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(at("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(at("run"), at("run-too")).unwrap();
    std::os::unix::fs::symlink("data/same.pak", at("link")).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(3_000_000).unwrap();
    fs::write(at("seed"), seed.to_string()).unwrap();
    dir
}

/// The directory as a tree; times left out, because shared files have one.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let tree: Tree = scan(dir, &mut |_| Ok(())).unwrap();
    let shown = |entry: &crate::tree::Entry| {
        let kind = match &entry.kind {
            crate::tree::EntryKind::File { is_executable, pieces, .. } => format!("{is_executable} {pieces:?}"),
            other => format!("{other:?}"),
        };
        (entry.path.to_string(), kind)
    };
    tree.entries().iter().map(shown).collect()
}

#[tokio::test]
async fn a_release_arrives_whole_and_the_next_shares_what_is_the_same() {
    let site = Site::new();
    let (one, two) = (package(1), package(2));
    let (first, second) = (site.push(one.path()).await, site.push(two.path()).await);
    let volume = site.volume();
    let used = volume.ensure(first).await.unwrap();
    assert_eq!(tree(used.files()), tree(one.path()));
    let other = volume.ensure(second).await.unwrap();
    assert_eq!(tree(other.files()), tree(two.path()));
    assert!(is_same_file(&used.files().join("data/same.pak"), &other.files().join("data/same.pak")));
    assert!(!is_same_file(&used.files().join("data/packed.pak"), &other.files().join("data/packed.pak")));
    // A volume that is opened again knows both.
    let again = site.volume();
    assert!(matches!(again.state(first), ReplicaState::Present { bytes } if bytes > 2_000_000));
    assert!(again.verify(second).await.unwrap());
}

#[tokio::test]
async fn a_broken_copy_is_found_and_mended() {
    let site = Site::new();
    let package = package(1);
    let root = site.push(package.path()).await;
    let volume = site.volume();
    let files = volume.ensure(root).await.unwrap().files().to_owned();
    let damage: [&dyn Fn(); 6] = [
        &|| {
            let mut bytes = fs::read(files.join("data/packed.pak")).unwrap();
            bytes[1_000_000] ^= 1;
            fs::write(files.join("data/packed.pak"), bytes).unwrap();
        },
        &|| fs::remove_file(files.join("data/deep/empty")).unwrap(),
        &|| fs::set_permissions(files.join("run"), fs::Permissions::from_mode(0o644)).unwrap(),
        &|| {
            fs::remove_file(files.join("link")).unwrap();
            fs::create_dir(files.join("link")).unwrap();
        },
        &|| fs::remove_dir_all(files.join("data")).unwrap(),
        &|| fs::write(files.join("seed"), b"longer than it was").unwrap(),
    ];
    for (index, damage) in damage.into_iter().enumerate() {
        damage();
        assert!(!volume.verify(root).await.unwrap(), "damage {index} was not found");
        drop(volume.ensure(root).await.unwrap());
        assert_eq!(tree(&files), tree(package.path()), "damage {index} was not mended");
        assert!(volume.verify(root).await.unwrap());
    }
}

/// As if the copy had been found good so long ago.
fn age(copy: &Path, age: Duration) {
    let tree = fs::File::options().write(true).open(copy.join("tree")).unwrap();
    tree.set_modified(std::time::SystemTime::now() - age).unwrap();
}

#[tokio::test]
async fn copies_are_read_again_when_it_is_time() {
    const DAY: Duration = Duration::from_hours(24);
    let site = Site::new();
    let packages = [package(1), package(2)];
    let roots = [site.push(packages[0].path()).await, site.push(packages[1].path()).await];
    let scrub = Scrub { period: DAY, rate: Rate(NonZeroU64::MAX) };
    let volume = Volume::open(VolumeSettings { scrub: Some(scrub), ..site.settings() }, site.store.clone()).unwrap();
    for root in roots {
        let files = volume.ensure(root).await.unwrap().files().to_owned();
        let mut bytes = fs::read(files.join("data/packed.pak")).unwrap();
        bytes[1_000_000] ^= 1;
        fs::write(files.join("data/packed.pak"), bytes).unwrap();
    }
    let copy = |index: usize| volume.present_dir(roots[index]);
    age(&copy(0), 2 * DAY);
    let mut changes = volume.watch();
    let mended = async {
        while scan(&copy(0).join("files"), &mut |_| Ok(())).unwrap()
            != scan(packages[0].path(), &mut |_| Ok(())).unwrap()
            || !matches!(volume.state(roots[0]), ReplicaState::Present { .. })
        {
            changes.changed().await.unwrap();
        }
    };
    let looking = async {
        tokio::select! { () = volume.scrub() => (), () = mended => () }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.expect("what was damaged is found and mended");
    assert_ne!(tree(&copy(1).join("files")), tree(packages[1].path()), "it is not its time");
    let due = |volume: &Volume| volume.due(DAY, &|_| false);
    assert_eq!(due(&volume), None);
    age(&copy(1), 2 * DAY);
    assert_eq!(due(&volume), Some(roots[1]));
    assert_eq!(volume.due(DAY, &|root| root == roots[1]), None);
}

#[tokio::test]
async fn a_file_that_two_releases_share_is_mended_for_both() {
    let site = Site::new();
    let packages = [package(1), package(2)];
    let roots = [site.push(packages[0].path()).await, site.push(packages[1].path()).await];
    let volume = site.volume();
    let mut files = Vec::new();
    for root in roots {
        files.push(volume.ensure(root).await.unwrap().files().to_owned());
    }
    // One chunk, all of it wrong.
    assert!(is_same_file(&files[0].join("run"), &files[1].join("run")));
    fs::write(files[0].join("run"), b"!!!!!!!!!!").unwrap();
    for (index, root) in roots.into_iter().enumerate() {
        assert_eq!(volume.verify(root).await.unwrap(), index > 0, "the first mending mends it for both");
        drop(volume.ensure(root).await.unwrap());
        assert_eq!(tree(&files[index]), tree(packages[index].path()));
    }
}

#[tokio::test]
async fn a_mending_that_is_cut_off_leaves_nothing_that_looks_good() {
    let site = Site::new();
    let package = package(1);
    let root = site.push(package.path()).await;
    let volume = site.volume();
    let files = volume.ensure(root).await.unwrap().files().to_owned();
    assert_eq!(volume.due(Duration::from_secs(60), &|_| false), None);
    let packs = site.dir.path().join("store/packs");
    fs::rename(&packs, packs.with_extension("away")).unwrap();
    fs::write(files.join("seed"), b"x").unwrap();
    assert!(!volume.verify(root).await.unwrap());
    volume.ensure(root).await.unwrap_err();
    // As after a restart.
    let again = site.volume();
    assert_eq!(again.due(Duration::from_secs(60), &|_| false), Some(root));
    fs::rename(packs.with_extension("away"), &packs).unwrap();
    assert!(!again.verify(root).await.unwrap());
    drop(again.ensure(root).await.unwrap());
    assert_eq!(tree(&files), tree(package.path()));
    assert_eq!(again.due(Duration::from_secs(60), &|_| false), None);
    // A copy that somebody removed is brought again.
    fs::remove_dir_all(files.parent().unwrap()).unwrap();
    assert!(!again.verify(root).await.unwrap());
    drop(again.ensure(root).await.unwrap());
    assert_eq!(tree(&files), tree(package.path()));
}

#[tokio::test]
async fn a_copy_is_verified_while_the_store_is_away() {
    let site = Site::new();
    let package = package(1);
    let root = site.push(package.path()).await;
    let volume = site.volume();
    let copy = volume.ensure(root).await.unwrap().files().parent().unwrap().to_owned();
    let (here, away) = (site.dir.path().join("store"), site.dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    assert!(volume.verify(root).await.unwrap());
    // What says how the copy has to be is damaged itself: the store has to be asked, and nothing is known until it answers.
    fs::write(copy.join("tree"), b"nonsense").unwrap();
    assert!(volume.verify(root).await.is_err());
    assert!(matches!(volume.state(root), ReplicaState::Present { .. }));
    fs::remove_dir_all(&here).ok();
    fs::rename(&away, &here).unwrap();
    assert!(volume.verify(root).await.unwrap());
}

#[test]
fn reading_again_keeps_to_its_rate_and_ends_with_whoever_asked() {
    let (leash, holder) = Leash::new(NonZeroU64::new(1_000_000).map(Rate));
    let begin = std::time::Instant::now();
    assert!(leash.wait(0) && leash.wait(50_000));
    assert!(begin.elapsed() >= Duration::from_millis(50));
    drop(holder);
    assert!(!leash.wait(50_000));
}

#[tokio::test]
async fn a_fetch_that_was_cut_off_goes_on_and_believes_nothing() {
    let site = Site::new();
    let package = package(1);
    let root = site.push(package.path()).await;
    let files = site.volume().ensure(root).await.unwrap().files().to_owned();
    // As after a kill: half of it is there, under `partial`, one file cut, one with wrong bytes.
    let partial = site.settings().dir.join("partial").join(root.to_string());
    fs::rename(files.parent().unwrap(), &partial).unwrap();
    let bytes = fs::read(partial.join("files/data/packed.pak")).unwrap();
    fs::write(partial.join("files/data/packed.pak"), &bytes[..800_000]).unwrap();
    fs::write(partial.join("files/data/same.pak"), noise(900_000, 77)).unwrap();
    let volume = site.volume();
    assert_eq!(volume.state(root), ReplicaState::Absent);
    drop(volume.ensure(root).await.unwrap());
    assert_eq!(tree(&files), tree(package.path()));
}

#[tokio::test]
async fn a_damaged_store_serves_nothing_and_a_mended_one_does() {
    let site = Site::new();
    let package = package(1);
    let root = site.push(package.path()).await;
    let pack = site.store.root(root).await.unwrap().packs[1];
    let file = site.dir.path().join(format!("store/packs/{}/{pack}", &pack.to_string()[..2]));
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[5000] ^= 4;
    fs::write(&file, &bad).unwrap();
    let volume = site.volume();
    let error = volume.ensure(root).await.unwrap_err();
    assert!(error.to_string().contains(&pack.to_string()), "{error}");
    assert!(matches!(volume.state(root), ReplicaState::Failed { is_full: false, .. }));
    assert!(!site.settings().dir.join("present").join(root.to_string()).exists());
    let name = crate::store::ObjectName { kind: ObjectKind::Pack, id: pack.to_string() };
    assert!(!site.store.check(&name).await.unwrap());
    fs::write(&file, &good).unwrap();
    assert_eq!(tree(volume.ensure(root).await.unwrap().files()), tree(package.path()));
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_and_what_is_used_or_pinned_stays() {
    let site = Site::new();
    let packages: Vec<TempDir> = (1..=4)
        .map(|seed| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("data"), noise(1_000_000, seed)).unwrap();
            dir
        })
        .collect();
    let mut roots = Vec::new();
    for package in &packages {
        roots.push(site.push(package.path()).await);
    }
    let settings = VolumeSettings { limit_bytes: Some(3_300_000), ..site.settings() };
    let volume = Volume::open(settings, site.store.clone()).unwrap();
    volume.want(&[(roots[0], Policy::Pinned)]);
    drop(volume.ensure(roots[0]).await.unwrap());
    let used = volume.ensure(roots[1]).await.unwrap();
    drop(volume.ensure(roots[2]).await.unwrap());
    // Room for three: the third was neither pinned nor is it used.
    let also_used = volume.ensure(roots[3]).await.unwrap();
    let here = |volume: &Volume| -> Vec<bool> {
        roots.iter().map(|root| matches!(volume.state(*root), ReplicaState::Present { .. })).collect()
    };
    assert_eq!(here(&volume), [true, true, false, true]);
    assert!(used.files().join("data").exists());
    // Nothing can go now: a clear error, and what is there stays.
    let error = volume.ensure(roots[2]).await.unwrap_err();
    assert!(error.is_full(), "{error}");
    assert!(!volume.evict(roots[1]).await.unwrap(), "it is in use");
    drop((used, also_used));
    drop(volume.ensure(roots[2]).await.unwrap());
    assert!(here(&volume)[0]);
}
