//! What zstd's levels cost and save: `levels LEVEL[,LEVEL…] DIR…` compresses every fifth 64 KiB of the files below as they would be stored.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use content::Compressor;

const CHUNK_BYTES: usize = 64 << 10;

/// Every so manieth chunk is looked at.
const STEP: usize = 5;

/// As much as memory and patience have.
const MOST_BYTES: usize = 1 << 30;

/// The best of so many: what others took from the processor meanwhile counts less.
const TRIES: usize = 4;

fn add(path: &Path, chunks: &mut Vec<Vec<u8>>) -> anyhow::Result<()> {
    if path.is_symlink() || chunks.len() * CHUNK_BYTES >= MOST_BYTES {
        return Ok(());
    }
    if !path.is_dir() {
        chunks.extend(fs::read(path)?.chunks(CHUNK_BYTES).step_by(STEP).map(<[u8]>::to_vec));
        return Ok(());
    }
    let below: Vec<PathBuf> = fs::read_dir(path)?.map(|entry| entry.map(|one| one.path())).collect::<Result<_, _>>()?;
    below.iter().try_for_each(|path| add(path, chunks))
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let levels = arguments.next().context("usage: levels LEVEL[,LEVEL…] DIR…")?;
    let mut chunks = Vec::new();
    arguments.try_for_each(|directory| add(Path::new(&directory), &mut chunks))?;
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    println!("{bytes} bytes");
    for level in levels.split(',') {
        let mut compressor = Compressor::new(level.parse().with_context(|| level.to_owned())?)?;
        let (mut stored, mut took) = (0, Duration::ZERO);
        for chunk in &chunks {
            let mut best = Duration::MAX;
            for last in (0..TRIES).rev() {
                let begin = Instant::now();
                let length = compressor.store(chunk).len();
                best = best.min(begin.elapsed());
                stored += if last == 0 { length } else { 0 };
            }
            took += best;
        }
        let speed = bytes as f64 / took.as_secs_f64() / 1e6;
        println!("level {level:>3}: {speed:5.0} MB/s, {:.3} before over after", bytes as f64 / stored as f64);
    }
    Ok(())
}
