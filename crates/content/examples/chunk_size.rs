//! What a mean length of chunks costs and finds: `chunk_size OLD NEW` prints a line for each, of two files or builds.
//!
//! | column | what |
//! |---|---|
//! | chunks | of both, each once |
//! | kept | bytes of both, each chunk once, over all bytes |
//! | sent | bytes of NEW's chunks that OLD has not |

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use fastcdc::v2020::FastCDC;

fn files(path: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let kind = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    if kind.is_file() {
        found.push(path.to_owned());
    }
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            files(&entry?.path(), found)?;
        }
    }
    Ok(())
}

/// Calls `each` with the hash and length of every chunk below a path; returns all bytes.
fn cut(path: &Path, mean: usize, mut each: impl FnMut(blake3::Hash, usize)) -> anyhow::Result<usize> {
    let (mut found, mut all) = (Vec::new(), 0);
    files(path, &mut found)?;
    for file in found {
        let bytes = fs::read(&file)?;
        all += bytes.len();
        for chunk in FastCDC::new(&bytes, mean / 4, mean, mean * 4) {
            each(blake3::hash(&bytes[chunk.offset..chunk.offset + chunk.length]), chunk.length);
        }
    }
    Ok(all)
}

#[expect(clippy::print_stdout, reason = "it prints a table")]
fn main() -> anyhow::Result<()> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [old, new] = &paths[..] else { anyhow::bail!("usage: chunk_size OLD NEW") };
    println!("{:>9} {:>9} {:>7} {:>12} {:>7} {:>6}", "mean KiB", "chunks", "kept", "sent MB", "of NEW", "s");
    for mean in [8, 16, 32, 64, 128, 256, 512, 1024].map(|kibibytes: usize| kibibytes * 1024) {
        let begun = Instant::now();
        let (mut known, mut kept, mut sent) = (HashSet::new(), 0, 0);
        let first = cut(old, mean, |id, length| kept += if known.insert(id) { length } else { 0 })?;
        let second = cut(new, mean, |id, length| sent += if known.insert(id) { length } else { 0 })?;
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        println!(
            "{:>9} {:>9} {:>7.3} {:>12.1} {:>7.3} {:>6.1}",
            mean / 1024,
            known.len(),
            share(kept + sent, first + second),
            sent as f64 / 1e6,
            share(sent, second),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
