//! A package like a game's, to measure with: `generate DIR --size BYTES [--seed N] [--build 1|2]`.
//!
//! The second build is the first one with one byte of a hundred changed. The last line is JSON: what was written, and how many
//! bytes the second build has that the first has not. That is known from how it was made, not found by comparing. Every file is written
//! anew, so every time of change is fresh, as build systems leave them.

#![expect(clippy::print_stdout, reason = "it prints what it made")]

mod bytes;
mod plan;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Piece;
use plan::{Numbers, Planned};

/// Bytes made before they are written: as much as fits in a processor's cache.
const BUFFER: u64 = 256 << 10;

const MANIFEST: &str = r#"# Made by `generate`: a package to measure with.
name = "bench-package"
title = "Package for benchmarks"

[launch]
command = ["<base>/run.sh"]
"#;

const SCRIPT: &str = "#!/bin/sh\nexit 0\n";

/// Links of a package: where, and to what.
const LINKS: [(&str, &str); 4] = [
    ("lib/libgame.so", "libgame.so.1"),
    ("lib/libgame.so.1", "libgame.so.1.0"),
    ("data/patch.pak", "pack4.pak"),
    ("levels/packs", "../data"),
];

struct Wanted {
    directory: PathBuf,
    size: u64,
    seed: u64,
    build: u8,
}

fn wanted() -> anyhow::Result<Wanted> {
    let usage = "usage: generate DIR --size BYTES [--seed N] [--build 1|2]";
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().context(usage)?);
    let mut wanted = Wanted { directory, size: 0, seed: 1, build: 1 };
    while let Some(name) = arguments.next() {
        let value: u64 = arguments.next().context(usage)?.parse().context(usage)?;
        match name.as_str() {
            "--size" => wanted.size = value,
            "--seed" => wanted.seed = value,
            "--build" => wanted.build = u8::try_from(value).context(usage)?,
            _ => anyhow::bail!(usage),
        }
    }
    // Smaller ones would have no file of some kind, and nothing to remove.
    anyhow::ensure!(wanted.size >= 32 << 20 && matches!(wanted.build, 1 | 2), "{usage}, at least 32 MiB");
    Ok(wanted)
}

fn write_pieces(file: &mut File, pieces: &[Piece]) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    for piece in pieces {
        let mut at = 0;
        while at < piece.length {
            let length = (piece.length - at).min(BUFFER);
            piece.part(at, length).write(&mut buffer);
            at += length;
            if buffer.len() as u64 >= BUFFER {
                file.write_all(&buffer)?;
                buffer.clear();
            }
        }
    }
    file.write_all(&buffer)
}

fn make(directory: &Path, planned: &[Planned]) -> anyhow::Result<()> {
    let mut known = HashSet::new();
    let mut parent = |path: &str| {
        let parent = directory.join(path).parent().unwrap_or(directory).to_owned();
        if known.insert(parent.clone()) { fs::create_dir_all(parent) } else { Ok(()) }
    };
    for file in planned {
        parent(&file.path)?;
        write_pieces(&mut File::create_new(directory.join(&file.path))?, &file.pieces)
            .with_context(|| file.path.clone())?;
    }
    fs::write(directory.join("kite.toml"), MANIFEST)?;
    let open = |mode| fs::OpenOptions::new().write(true).create_new(true).mode(mode).to_owned();
    open(0o755).open(directory.join("run.sh"))?.write_all(SCRIPT.as_bytes())?;
    parent("lib/libgame.so.1.0")?;
    open(0o755).open(directory.join("lib/libgame.so.1.0"))?.write_all(SCRIPT.as_bytes())?;
    for (path, to) in LINKS {
        symlink(to, directory.join(path))?;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let wanted = wanted()?;
    let mut numbers = Numbers::new(wanted.seed);
    let old = plan::first(wanted.size, &mut numbers);
    let mut files = old.clone();
    if wanted.build == 2 {
        plan::second(wanted.size, &mut files, &mut numbers);
    }
    fs::create_dir_all(&wanted.directory)?;
    anyhow::ensure!(
        fs::read_dir(&wanted.directory)?.next().is_none(),
        "{} is not empty: give a new directory",
        wanted.directory.display()
    );
    make(&wanted.directory, &files)?;
    let (before, after): (HashSet<_>, HashSet<_>) =
        (old.iter().map(|file| &file.path).collect(), files.iter().map(|file| &file.path).collect());
    println!(
        r#"{{"build": {}, "files": {}, "bytes": {}, "difference_bytes": {}, "changed_files": {}, "new_files": {}, "removed_files": {}}}"#,
        wanted.build,
        files.len() + 3,
        files.iter().map(Planned::length).sum::<u64>() + (MANIFEST.len() + 2 * SCRIPT.len()) as u64,
        files.iter().map(Planned::fresh).sum::<u64>(),
        files.iter().filter(|file| file.fresh() > 0 && before.contains(&file.path)).count(),
        after.difference(&before).count(),
        before.difference(&after).count(),
    );
    Ok(())
}
