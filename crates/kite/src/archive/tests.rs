use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use super::*;

/// A package as a directory of its own, with everything that archives keep.
fn package(dir: &Path) {
    let game = dir.join("game");
    std::fs::create_dir_all(game.join("deep/empty")).unwrap();
    std::fs::write(game.join("kite.toml"), "name = \"x\"").unwrap();
    std::fs::write(game.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(game.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(game.join("deep/Ärger und mehr.bin"), vec![7; 300_000]).unwrap();
    symlink("run", game.join("link")).unwrap();
    std::fs::hard_link(game.join("run"), game.join("twin")).unwrap();
    let sparse = std::fs::File::create(game.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    sparse.set_modified(old).unwrap();
}

fn run(dir: &Path, command: &[&str]) {
    let done = Command::new(command[0]).args(&command[1..]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn unpacked(archive: &Path) -> anyhow::Result<Unpacked> {
    unpack(archive, &Arc::default())
}

fn refused(archive: &Path) -> String {
    format!("{:#}", unpacked(archive).unwrap_err())
}

#[test]
fn packages_come_out_of_tar_in_every_compression() {
    let dir = tempfile::tempdir().unwrap();
    package(dir.path());
    for (name, option) in
        [("a.tar", "-cSf"), ("a.tgz", "-czSf"), ("a.bz2", "-cjSf"), ("a.xz", "-cJSf"), ("named-anyhow", "--zstd -cSf")]
    {
        let options: Vec<&str> = option.split(' ').collect();
        run(dir.path(), &[&["tar"], &options[..], &[name, "game"]].concat());
        let unpacked = unpacked(&dir.path().join(name)).unwrap();
        let package = unpacked.package.clone();
        run(dir.path(), &["diff", "-r", "--no-dereference", "game", package.to_str().unwrap()]);
        let stat = |name: &str| std::fs::metadata(package.join(name)).unwrap();
        assert_eq!((stat("run").mode() & 0o111, stat("kite.toml").mode() & 0o111), (0o111, 0), "{name}");
        assert_eq!(stat("run").ino(), stat("twin").ino(), "{name}: one file by two names");
        assert!(stat("sparse").blocks() < 100, "{name}: {} blocks", stat("sparse").blocks());
        assert_eq!(stat("sparse").mtime(), 1_600_000_000);
        drop(unpacked);
        assert!(!package.exists(), "{name}: nothing is left");
    }
}

/// Writes a zip archive of these names and modes; `None` says nothing of a mode, as Windows does.
fn zip(path: &Path, entries: &[(&str, Option<u32>, &[u8])]) {
    let mut writer = ::zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, mode, content) in entries {
        let options = ::zip::write::SimpleFileOptions::default().system(::zip::System::Dos);
        let options = match mode {
            Some(mode) => options.unix_permissions(*mode).system(::zip::System::Unix),
            None => options,
        };
        match mode {
            Some(0o120_777) => {
                writer.add_symlink(*name, std::str::from_utf8(content).unwrap(), options).unwrap();
            }
            _ => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(content).unwrap();
            }
        }
    }
    writer.finish().unwrap();
}

#[test]
fn packages_come_out_of_zip_also_from_windows() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.zip");
    let elf = b"\x7fELF and more";
    zip(
        &archive,
        &[
            ("kite.toml", Some(0o644), b"name"),
            ("run", Some(0o755), b"#!/bin/sh"),
            ("data/#!not", Some(0o644), b"#!"),
            ("link", Some(0o120_777), b"run"),
            ("bin/guessed", None, elf),
            ("bin/data", None, b"data"),
        ],
    );
    let unpacked = unpacked(&archive).unwrap();
    let executable = |name: &str| std::fs::metadata(unpacked.package.join(name)).unwrap().mode() & 0o111 != 0;
    assert_eq!(
        ["run", "data/#!not", "bin/guessed", "bin/data", "kite.toml"].map(executable),
        [true, false, true, false, false]
    );
    assert_eq!(std::fs::read_link(unpacked.package.join("link")).unwrap(), Path::new("run"));
    assert_eq!(std::fs::read(unpacked.package.join("bin/guessed")).unwrap(), elf);
}

/// A tar archive of one entry that no careful program writes.
fn tar_of(path: &Path, kind: ::tar::EntryType, name: &[u8], link: &[u8], mode: u32) {
    let mut header = ::tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut builder = ::tar::Builder::new(std::fs::File::create(path).unwrap());
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap();
}

#[test]
fn what_has_no_place_in_a_package_is_refused_by_name() {
    use ::tar::EntryType;
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.tar");
    for (kind, name, mode, expected) in [
        (EntryType::Regular, &b"../out"[..], 0o644, "../out leads out of the archive"),
        (EntryType::Regular, b"/etc/out", 0o644, "/etc/out leads out"),
        (EntryType::Regular, b"su", 0o4755, "su has a set-user-id"),
        (EntryType::Char, b"tty", 0o644, "tty is a device node"),
        (EntryType::Fifo, b"pipe", 0o644, "pipe is a pipe"),
        (EntryType::Link, b"link", 0o644, "a link to nothing"),
    ] {
        tar_of(&archive, kind, name, b"", mode);
        let error = refused(&archive);
        assert!(error.contains(expected), "`{error}` has no `{expected}`");
    }
    tar_of(&archive, EntryType::Link, b"link", b"../../etc/passwd", 0o644);
    assert!(refused(&archive).contains("leads out"), "{}", refused(&archive));
}

#[test]
fn nothing_is_written_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (outside, archive) = (dir.path().join("outside"), dir.path().join("a.zip"));
    std::fs::create_dir(&outside).unwrap();
    zip(&archive, &[("a", Some(0o120_777), outside.to_str().unwrap().as_bytes()), ("a/file", Some(0o644), b"x")]);
    let error = refused(&archive);
    assert!(error.contains("cannot be made"), "{error}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn other_files_and_broken_archives_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar.gz");
    std::fs::write(&path, "no archive").unwrap();
    assert!(refused(&path).contains("neither a directory nor an archive"), "{}", refused(&path));
    package(dir.path());
    run(dir.path(), &["tar", "-czf", "a.tar.gz", "game"]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    assert!(refused(&path).contains("cannot be unpacked"), "{}", refused(&path));
    std::fs::write(&path, &whole).unwrap();
    let error = unpack(&path, &Arc::new(AtomicBool::new(true))).unwrap_err();
    assert!(format!("{error:#}").contains("stopped"), "{error:#}");
}
