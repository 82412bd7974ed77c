//! restore(capture(x)) = x on real files, whatever the game put there, and while it writes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use content::saves::{
    CaptureError, Captured, LeftOut, Limits, Pattern, Place, Places, SavePaths, capture, capture_stable, fingerprint,
    restore_save,
};
use content::{ChunkId, Entry, EntryKind, RestoreError, Tree, TreePath};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use tempfile::TempDir;

type Kept = HashMap<ChunkId, Vec<u8>>;

/// An instance's directories.
struct Instance {
    home: TempDir,
    base: TempDir,
}

impl Instance {
    fn new() -> Instance {
        Instance { home: TempDir::new().unwrap(), base: TempDir::new().unwrap() }
    }

    fn places(&self) -> Places<'_> {
        Places { home: self.home.path(), base: Some(self.base.path()) }
    }

    fn home(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn capture(&self, paths: &SavePaths) -> (Captured, Kept) {
        self.try_capture(paths, Limits::default()).unwrap()
    }

    fn try_capture(&self, paths: &SavePaths, limits: Limits) -> Result<(Captured, Kept), CaptureError> {
        let mut kept = Kept::new();
        let captured = capture(&self.places(), paths, limits, &mut |chunk| {
            kept.insert(chunk.id, chunk.bytes);
            Ok(())
        })?;
        Ok((captured, kept))
    }

    fn restore(&self, tree: &Tree, kept: &Kept) -> Result<(), RestoreError> {
        restore_save(tree, &self.places(), None, &mut fetch(kept))
    }
}

fn fetch(kept: &Kept) -> impl FnMut(ChunkId) -> io::Result<Vec<u8>> {
    |id| kept.get(&id).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn paths(home: &[&str], base: &[&str]) -> SavePaths {
    let patterns = |place, globs: &[&str]| {
        globs.iter().map(|glob| Pattern { place, glob: (*glob).to_owned() }).collect::<Vec<_>>()
    };
    SavePaths::new([patterns(Place::Home, home), patterns(Place::Base, base)].concat()).unwrap()
}

fn names(tree: &Tree) -> Vec<String> {
    tree.entries().iter().map(|entry| entry.path.to_string()).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn only_what_patterns_name_is_kept() {
    let game = Instance::new();
    write(&game.home(".local/share/doom/slot1/a.sav"), b"1");
    write(&game.home(".local/share/other/b"), b"2");
    write(&game.home(".cache/huge"), b"3");
    write(&game.home(".config/game.cfg"), b"4");
    write(&game.base.path().join("saves/1.sav"), b"5");
    write(&game.base.path().join("saves/1.log"), b"6");
    File::create(game.home(".local/share/doom").join(OsStr::from_bytes(b"\xff"))).unwrap();
    let (captured, kept) =
        game.capture(&paths(&[".local/share/doom/**", ".config/*.cfg"], &["saves/*.sav", "none/**"]));
    let expected = [
        "base",
        "base/saves",
        "base/saves/1.sav",
        "home",
        "home/.config",
        "home/.config/game.cfg",
        "home/.local",
        "home/.local/share",
        "home/.local/share/doom",
        "home/.local/share/doom/slot1",
        "home/.local/share/doom/slot1/a.sav",
        "home/.local/share/doom/\\xff",
    ];
    assert_eq!(names(&captured.tree), expected);
    assert_eq!((captured.is_settled, captured.left_out, kept.len()), (true, LeftOut::default(), 3));
    let (nothing, _) = Instance::new().capture(&paths(&["x/**"], &["y"]));
    assert_eq!(names(&nothing.tree), Vec::<String>::new());
}

#[test]
fn a_hostile_game_cannot_reach_out_nor_make_its_save_fail() {
    let outside = TempDir::new().unwrap();
    write(&outside.path().join("secret"), b"secret");
    let game = Instance::new();
    write(&game.home("s/save"), b"save");
    symlink(outside.path(), game.home("s/dir")).unwrap();
    symlink(outside.path(), game.home("swapped")).unwrap();
    // Inside of the tree, but out of the player's home.
    symlink("../../base/x", game.home("s/across")).unwrap();
    symlink("../s/save", game.home("s/inside")).unwrap();
    mkfifoat(CWD, game.home("s/pipe"), Mode::from_raw_mode(0o600)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(game.home("s/socket")).unwrap());
    write(&game.home("s/privileged"), b"");
    fs::set_permissions(game.home("s/privileged"), fs::Permissions::from_mode(0o4755)).unwrap();
    let (captured, kept) = game.capture(&paths(&["s/**", "swapped/**", "swapped/secret"], &[]));
    assert_eq!(names(&captured.tree), ["home", "home/s", "home/s/inside", "home/s/save"]);
    assert_eq!(captured.left_out, LeftOut { links: 2, special: 2, privileged: 1, names: 0 });
    assert_eq!(kept.into_values().collect::<Vec<_>>(), [b"save"]);
}

#[test]
fn names_too_deep_are_left_out() {
    let game = Instance::new();
    write(&game.home(&"d/".repeat(126)).join("file"), b"deep");
    write(&game.home(&"d/".repeat(130)).join("file"), b"too deep");
    let (captured, _) = game.capture(&paths(&["d"], &[]));
    assert_eq!((captured.left_out.names, captured.tree.bytes()), (1, 4));
}

#[test]
fn a_save_over_its_quota_is_refused_before_it_is_kept() {
    let game = Instance::new();
    for name in ["a", "b", "c"] {
        write(&game.home("s").join(name), &[1; 1000]);
    }
    fs::hard_link(game.home("s/c"), game.home("s/d")).unwrap();
    let refused = |limits| {
        let mut kept = 0;
        let result = capture(&game.places(), &paths(&["s/**"], &[]), limits, &mut |_| {
            kept += 1;
            Ok(())
        });
        assert_eq!(kept, 0);
        match result.unwrap_err() {
            CaptureError::Quota { what, limit, found } => (what, limit, found),
            error => panic!("{error}"),
        }
    };
    // A file with two names is one file's bytes; the directory on the way is a name, too.
    assert_eq!(refused(Limits { bytes: 2999, files: 5 }), ("bytes", 2999, 3000));
    assert_eq!(refused(Limits { bytes: 3000, files: 4 }), ("files", 4, 5));
    assert!(game.try_capture(&paths(&["s/**"], &[]), Limits { bytes: 3000, files: 5 }).is_ok());
}

#[test]
fn marks_of_the_overlay_are_no_saves() {
    let game = Instance::new();
    write(&game.base.path().join("saves/1"), b"1");
    let mark = game.base.path().join("saves/removed");
    if mknodat(CWD, &mark, FileType::CharacterDevice, Mode::empty(), 0).is_err() {
        // A kernel before 5.8 lets only root make one.
        return;
    }
    let (captured, _) = game.capture(&paths(&[], &["saves/**"]));
    assert_eq!((names(&captured.tree).len(), captured.left_out.total()), (3, 0));
}

#[test]
fn a_fingerprint_changes_with_the_save_alone() {
    let game = Instance::new();
    let paths = paths(&["s/**"], &[]);
    write(&game.home("s/a"), b"1");
    let print = || fingerprint(&game.places(), &paths).unwrap();
    let first = print();
    write(&game.home("other"), b"1");
    assert_eq!(print(), first);
    std::thread::sleep(Duration::from_millis(20));
    fs::write(game.home("s/a"), b"2").unwrap();
    let second = print();
    assert_ne!(second, first);
    write(&game.home("s/b"), b"");
    assert_ne!(print(), second);
}

#[test]
fn a_save_replaces_what_a_player_begins_with() {
    let (game, next) = (Instance::new(), Instance::new());
    let outside = TempDir::new().unwrap();
    let victim = outside.path().join("victim");
    write(&victim, b"old");
    write(&game.home("s/file"), b"new");
    write(&game.home("s/link"), b"new");
    write(&game.home("s/dir/file"), b"new");
    write(&game.home("s/second/file"), b"new");
    fs::set_permissions(game.home("s/file"), fs::Permissions::from_mode(0o777)).unwrap();
    let (captured, kept) = game.capture(&paths(&["s/**"], &[]));

    write(&next.home("s/file"), b"template, and longer");
    write(&next.home("s/template"), b"template");
    write(&next.home("s/second"), b"in the way");
    fs::hard_link(next.home("s/file"), outside.path().join("same")).unwrap();
    symlink(&victim, next.home("s/link")).unwrap();
    symlink(outside.path(), next.home("s/dir")).unwrap();
    let me = rustix::process::getuid().as_raw();
    restore_save(&captured.tree, &next.places(), Some(me), &mut fetch(&kept)).unwrap();

    for name in ["s/file", "s/link", "s/dir/file", "s/second/file"] {
        assert_eq!(fs::read(next.home(name)).unwrap(), b"new", "{name}");
    }
    assert_eq!(fs::read(&victim).unwrap(), b"old");
    assert_eq!(fs::read(outside.path().join("same")).unwrap(), b"template, and longer");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(fs::read(next.home("s/template")).unwrap(), b"template");
    for (name, mode) in [("s", 0o700), ("s/file", 0o700), ("s/link", 0o600), ("s/dir", 0o700)] {
        assert_eq!(fs::symlink_metadata(next.home(name)).unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn all_of_a_save_belongs_to_the_player() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (game, next) = (Instance::new(), Instance::new());
    write(&game.home("s/file"), b"1");
    fs::hard_link(game.home("s/file"), game.home("s/same")).unwrap();
    symlink("file", game.home("s/link")).unwrap();
    let (captured, kept) = game.capture(&paths(&["s"], &[]));
    fs::create_dir(next.home("s")).unwrap();
    restore_save(&captured.tree, &next.places(), Some(12_345), &mut fetch(&kept)).unwrap();
    for name in ["s", "s/file", "s/same", "s/link"] {
        let stat = fs::symlink_metadata(next.home(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (12_345, 12_345), "{name}");
    }
}

#[test]
fn trees_that_are_no_saves_are_refused_before_anything_is_written() {
    let entry = |path: &str, kind| Entry { path: TreePath::new(path).unwrap(), kind };
    let directory = |path| entry(path, EntryKind::Directory);
    let file = |path| entry(path, EntryKind::File { is_executable: false, modified_s: 0, pieces: Vec::new() });
    let link = |path, target: &str| entry(path, EntryKind::Symlink { target: target.into() });
    let hard = |path, to| entry(path, EntryKind::HardLink { to: TreePath::new(to).unwrap() });
    let check = |last: Vec<Entry>| {
        let game = Instance::new();
        let tree = Tree::new([vec![directory("base"), file("base/f")], last].concat()).unwrap();
        let error = game.restore(&tree, &Kept::new()).unwrap_err();
        assert!(matches!(error, RestoreError::NotASave { .. }), "{error}");
        assert_eq!(fs::read_dir(game.base.path()).unwrap().count(), 0);
    };
    check(vec![directory("home"), directory("other")]);
    check(vec![file("home")]);
    check(vec![link("home", "base")]);
    check(vec![directory("home"), link("home/a", "../base/f")]);
    check(vec![directory("home"), hard("home/a", "base/f")]);
    let game = Instance::new();
    let tree = Tree::new(vec![directory("base"), file("base/f")]).unwrap();
    let only_home = Places { base: None, ..game.places() };
    let error = restore_save(&tree, &only_home, None, &mut fetch(&Kept::new())).unwrap_err();
    assert!(matches!(error, RestoreError::NotASave { .. }), "{error}");
}

#[test]
fn damaged_chunks_are_told() {
    let game = Instance::new();
    write(&game.home("s/file"), &[1; 1000]);
    let (captured, mut kept) = game.capture(&paths(&["s"], &[]));
    kept.values_mut().for_each(|bytes| bytes[0] ^= 1);
    let error = Instance::new().restore(&captured.tree, &kept).unwrap_err();
    assert!(matches!(error, RestoreError::Damaged { .. }), "{error}");
}

/// Two files of one version each time, replaced as careful games do.
fn write_version(game: &Instance, version: u32) {
    for name in ["s/a", "s/b"] {
        let new = game.home("s/new.tmp");
        fs::write(&new, version.to_le_bytes().repeat(50_000)).unwrap();
        fs::rename(&new, game.home(name)).unwrap();
    }
}

/// The versions of the files in a capture, none of them torn.
fn versions(captured: &Captured, kept: &Kept) -> Vec<u32> {
    let copy = Instance::new();
    copy.restore(&captured.tree, kept).unwrap();
    let version = |name| {
        let bytes = fs::read(copy.home(name)).unwrap();
        assert_eq!(bytes.len(), 200_000);
        let words: Vec<_> = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        assert!(words.iter().all(|word| *word == words[0]), "{name} is torn");
        words[0]
    };
    vec![version("s/a"), version("s/b")]
}

fn capture_live(game: &Instance, patience: Duration, settle: Duration) -> (Captured, Kept) {
    let mut kept = Kept::new();
    let paths = paths(&["s/a", "s/b"], &[]);
    let mut keep = |chunk: content::Chunk| {
        kept.insert(chunk.id, chunk.bytes);
        Ok(())
    };
    let captured = capture_stable(&game.places(), &paths, Limits::default(), &mut keep, patience, settle).unwrap();
    (captured, kept)
}

/// Ends the game's thread also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_game_that_writes_all_the_time_has_whole_files_in_its_save() {
    let game = Instance::new();
    fs::create_dir(game.home("s")).unwrap();
    write_version(&game, 0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut version = 0;
            while !is_over.load(Ordering::Relaxed) {
                version += 1;
                write_version(&game, version);
            }
        });
        let _end = End(&is_over);
        for _ in 0..10 {
            let (captured, kept) = capture_live(&game, Duration::from_millis(100), Duration::from_secs(60));
            versions(&captured, &kept);
            assert!(!captured.is_settled);
        }
    });
}

#[test]
fn a_game_that_pauses_has_files_in_its_save_that_belong_together() {
    let game = Instance::new();
    fs::create_dir(game.home("s")).unwrap();
    write_version(&game, 0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                write_version(&game, version);
                std::thread::sleep(Duration::from_millis(600));
            }
        });
        let _end = End(&is_over);
        for _ in 0..4 {
            let (captured, kept) = capture_live(&game, Duration::from_secs(60), Duration::from_millis(300));
            let versions = versions(&captured, &kept);
            assert!(captured.is_settled && versions[0] == versions[1], "{versions:?}");
        }
    });
}

#[test]
fn a_save_that_rests_is_taken_once_it_settled() {
    let game = Instance::new();
    fs::create_dir(game.home("s")).unwrap();
    write_version(&game, 7);
    let begin = Instant::now();
    let (captured, kept) = capture_live(&game, Duration::from_secs(60), Duration::from_millis(200));
    assert!(captured.is_settled && begin.elapsed() >= Duration::from_millis(150));
    assert_eq!(versions(&captured, &kept), [7, 7]);
}

#[test]
fn a_file_that_is_always_written_is_no_half_file() {
    let game = Instance::new();
    write(&game.home("s/log"), &vec![7; 3_000_000]);
    let mut log = File::options().append(true).open(game.home("s/log")).unwrap();
    let all = paths(&["s"], &[]);
    let error = capture(&game.places(), &all, Limits::default(), &mut |_| io::Write::write_all(&mut log, b"more"));
    assert!(matches!(error, Err(CaptureError::Busy { .. })), "{error:?}");
}

/// What a game may put at a name.
#[derive(Clone, Debug)]
enum Thing {
    File {
        bytes: Vec<u8>,
        offset: u64,
        is_executable: bool,
    },
    Directory,
    Symlink(String),
    /// A second name of the file made so many things before.
    HardLink(usize),
}

fn thing() -> impl Strategy<Value = Thing> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        5 => (bytes, 0_u64..400_000, any::<bool>())
            .prop_map(|(bytes, offset, is_executable)| Thing::File { bytes, offset, is_executable }),
        1 => Just(Thing::Directory),
        1 => "[a-c]{1,2}(/[a-c])?".prop_map(Thing::Symlink),
        2 => (0_usize..5).prop_map(Thing::HardLink),
    ]
}

/// Names of directories and, at last, of the thing.
fn way() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let name = prop::collection::vec(prop::sample::select(&b"abc\xff"[..]), 1..3);
    prop::collection::vec(name, 1..4)
}

/// Where a file is in the way of a directory, or the other way round, there is none.
fn make(root: &Path, things: &[(Vec<Vec<u8>>, Thing)]) {
    let mut files = Vec::new();
    for (names, thing) in things {
        let path = names.iter().fold(root.to_owned(), |path, name| path.join(OsStr::from_bytes(name)));
        if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match thing {
            Thing::File { bytes, offset, is_executable } => {
                let file = File::create(&path).unwrap();
                file.write_all_at(bytes, *offset).unwrap();
                let mode = if *is_executable { 0o755 } else { 0o644 };
                file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
                files.push(path);
            }
            Thing::Directory => fs::create_dir(&path).unwrap(),
            Thing::Symlink(target) => symlink(target, &path).unwrap(),
            Thing::HardLink(back) => {
                if let Some(file) = files.iter().rev().nth(*back) {
                    fs::hard_link(file, &path).unwrap();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_save_comes_back_as_it_was(
        home in prop::collection::vec((way(), thing()), 0..12),
        base in prop::collection::vec((way(), thing()), 0..6),
    ) {
        let (game, next) = (Instance::new(), Instance::new());
        make(game.home.path(), &home);
        make(game.base.path(), &base);
        let all = paths(&[""], &["**"]);
        let (captured, kept) = game.capture(&all);
        prop_assert_eq!((captured.is_settled, captured.left_out), (true, LeftOut::default()));
        prop_assert_eq!(&Tree::decode(&captured.tree.encode()).unwrap(), &captured.tree);
        // Twice: what the first one left is what the second one finds.
        for _ in 0..2 {
            next.restore(&captured.tree, &kept).unwrap();
            prop_assert_eq!(&next.capture(&all).0.tree, &captured.tree);
        }
        for entry in captured.tree.entries().iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. })) {
            let path = entry.path.as_path();
            let [was, is] = [&game, &next].map(|instance| match path.strip_prefix("home") {
                Ok(path) => fs::read(instance.home.path().join(path)).unwrap(),
                Err(_) => fs::read(instance.base.path().join(path.strip_prefix("base").unwrap())).unwrap(),
            });
            prop_assert!(was == is, "{}", entry.path);
        }
    }
}
