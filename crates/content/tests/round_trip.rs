//! restore(scan(x)) = x, on real files; and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use content::{ChunkId, EntryKind, RestoreError, ScanError, Tree, TreeError, restore, scan};
use proptest::prelude::*;
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

type Kept = HashMap<ChunkId, Vec<u8>>;

fn scanned(root: &Path) -> Result<(Tree, Kept), ScanError> {
    let mut kept = Kept::new();
    let tree = scan(root, &mut |chunk| {
        kept.insert(chunk.id, chunk.bytes);
        Ok(())
    })?;
    Ok((tree, kept))
}

fn fetch(kept: &Kept) -> impl FnMut(ChunkId) -> io::Result<Vec<u8>> {
    |id| kept.get(&id).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn restored(tree: &Tree, kept: &Kept) -> TempDir {
    let directory = TempDir::new().unwrap();
    restore(tree, directory.path(), &mut fetch(kept)).unwrap();
    directory
}

#[test]
fn all_that_a_game_can_tell_is_kept() {
    let package = TempDir::new().unwrap();
    let at = |name: &[u8]| package.path().join(OsStr::from_bytes(name));
    fs::create_dir_all(at(b"data/empty")).unwrap();
    fs::write(at(b"game"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(at(b"game"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(at(b"data/\xff\n odd"), b"odd").unwrap();
    fs::write(at(b"data/Case"), b"upper").unwrap();
    fs::write(at(b"data/case"), b"lower").unwrap();
    fs::write(at(b"data-later"), b"sorts before data/").unwrap();
    fs::hard_link(at(b"data/case"), at(b"another")).unwrap();
    symlink("../game", at(b"data/run")).unwrap();
    symlink("nothing", at(b"dangling")).unwrap();
    let sparse = File::create(at(b"sparse")).unwrap();
    sparse.set_len(6 << 30).unwrap();
    sparse.write_all_at(b"in the middle", 5 << 30).unwrap();
    let day = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(24);
    File::options().write(true).open(at(b"data/Case")).unwrap().set_modified(day).unwrap();

    let (tree, kept) = scanned(package.path()).unwrap();
    assert_eq!(Tree::decode(&tree.encode()), Ok(tree.clone()));
    let copy = restored(&tree, &kept);
    let (again, _) = scanned(copy.path()).unwrap();
    assert_eq!(again, tree);

    let file = |name: &str| fs::symlink_metadata(copy.path().join(name)).unwrap();
    assert_eq!(file("game").mode() & 0o7777, 0o755);
    assert_eq!(file("data-later").mode() & 0o7777, 0o644);
    assert_eq!(file("another").ino(), file("data/case").ino());
    assert_eq!(file("data/Case").mtime(), 86_400);
    assert_eq!(file("sparse").len(), 6 << 30);
    assert!(file("sparse").blocks() * 512 < 1 << 20, "the holes take no place");
    assert_eq!(fs::read_link(copy.path().join("data/run")).unwrap(), Path::new("../game"));
}

#[test]
fn what_has_no_place_in_a_package_is_refused_by_name() {
    let refused = |make: &dyn Fn(&Path)| {
        let package = TempDir::new().unwrap();
        fs::create_dir(package.path().join("dir")).unwrap();
        make(&package.path().join("dir/it"));
        let error = scanned(package.path()).unwrap_err();
        assert!(error.to_string().contains("dir/it"), "{error}");
        error
    };
    let pipe = refused(&|path| mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap());
    assert!(matches!(pipe, ScanError::Special { what: "a pipe", .. }));
    let socket = refused(&|path| drop(UnixListener::bind(path).unwrap()));
    assert!(matches!(socket, ScanError::Special { what: "a socket", .. }));
    let privileged = refused(&|path| {
        fs::write(path, b"").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
    });
    assert!(matches!(privileged, ScanError::Privileged { .. }));
    for target in ["/etc/passwd", "../../x", "x/../../../y"] {
        let escape = refused(&|path| symlink(target, path).unwrap());
        assert!(matches!(escape, ScanError::Tree(TreeError::Escape { .. })), "{target}");
    }
}

#[test]
fn a_file_that_grows_meanwhile_is_no_package() {
    let package = TempDir::new().unwrap();
    let path = package.path().join("log");
    fs::write(&path, vec![7; 3_000_000]).unwrap();
    let mut log = File::options().append(true).open(&path).unwrap();
    let error = scan(package.path(), &mut |_| log.write_all(b"more")).unwrap_err();
    assert!(matches!(error, ScanError::Changed { .. }), "{error}");
}

#[test]
fn damaged_and_missing_chunks_are_told() {
    let package = TempDir::new().unwrap();
    fs::write(package.path().join("file"), vec![1; 100_000]).unwrap();
    let (tree, mut kept) = scanned(package.path()).unwrap();
    let empty = || TempDir::new().unwrap();
    let missing = restore(&tree, empty().path(), &mut fetch(&Kept::new())).unwrap_err();
    assert!(matches!(missing, RestoreError::Chunk { .. }), "{missing}");
    kept.values_mut().for_each(|bytes| bytes[0] ^= 1);
    let damaged = restore(&tree, empty().path(), &mut fetch(&kept)).unwrap_err();
    assert!(matches!(damaged, RestoreError::Damaged { .. }), "{damaged}");
}

#[test]
fn nothing_is_written_through_what_lies_in_the_way() {
    let package = TempDir::new().unwrap();
    fs::write(package.path().join("file"), b"new").unwrap();
    let (tree, kept) = scanned(package.path()).unwrap();
    let (outside, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let victim = outside.path().join("victim");
    fs::write(&victim, b"old").unwrap();
    symlink(&victim, target.path().join("file")).unwrap();
    let error = restore(&tree, target.path(), &mut fetch(&kept)).unwrap_err();
    assert!(matches!(error, RestoreError::Write { .. }), "{error}");
    assert_eq!(fs::read(&victim).unwrap(), b"old");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_directory_comes_back_as_it_was(
        files in prop::collection::btree_map(
            prop::collection::vec("[a-c]{1,2}", 1..4),
            (prop::collection::vec(any::<u8>(), 0..200), 0u64..400_000, any::<bool>()),
            0..12,
        ),
    ) {
        let package = TempDir::new().unwrap();
        for (names, (bytes, offset, is_executable)) in files {
            let path = names.iter().fold(package.path().to_owned(), |path, name| path.join(name));
            // Where a file is in the way of a directory, or the other way round, there is none.
            if fs::create_dir_all(path.parent().unwrap()).is_err() {
                continue;
            }
            let Ok(file) = File::create(&path) else { continue };
            file.write_all_at(&bytes, offset).unwrap();
            let mode = if is_executable { 0o755 } else { 0o644 };
            file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        }
        let (tree, kept) = scanned(package.path()).unwrap();
        let copy = restored(&tree, &kept);
        prop_assert_eq!(&scanned(copy.path()).unwrap().0, &tree);
        let files = tree.entries().iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
        for entry in files {
            let [was, is] = [package.path(), copy.path()].map(|root| fs::read(root.join(entry.path.as_path())).unwrap());
            prop_assert!(was == is, "{}", entry.path);
        }
    }
}
