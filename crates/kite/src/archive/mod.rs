//! A package that comes as an archive: unpacked into a directory of its own, which goes with the value.
//!
//! Archives are made by others: what has no place in a package is refused by name before anything of it is written, and nothing is ever written
//! outside of the directory, whatever the names and links say. What a directory that is pushed would be refused for is found later, by the scan.
//!
//! Deliberately absent: rights beyond "may be run", owners, extended attributes; packages have none.

mod kind;
mod place;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use self::kind::Kind;
use self::place::Place;
use crate::say;

/// How often the progress is shown.
const SHOW_PERIOD: Duration = Duration::from_millis(500);

/// Bytes that are read from the archive at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A package's directory that was unpacked; removed when this goes.
#[derive(Debug)]
pub(crate) struct Unpacked {
    _temporary: TempDir,
    /// Where its `kite.toml` should be.
    pub(crate) package: PathBuf,
}

/// Unpacks an archive below the directory for temporary files. `stop` ends it early.
pub(crate) fn unpack(archive: &Path, stop: &Arc<AtomicBool>) -> anyhow::Result<Unpacked> {
    let name = archive.display();
    let mut file = File::open(archive).with_context(|| format!("{name} cannot be read"))?;
    let Some(kind) = Kind::of(&mut file).with_context(|| format!("{name} cannot be read"))? else {
        bail!("{name} is neither a directory nor an archive that can be unpacked: {}", kind::KNOWN);
    };
    let temporary = tempfile::Builder::new().prefix("kite-push-").tempdir();
    let temporary = temporary.context("no directory can be made to unpack into: TMPDIR may name one")?;
    let bytes = file.metadata()?.len();
    let meter = Meter { inner: file, read: 0, bytes, shown: Instant::now(), stop: Arc::clone(stop) };
    let reader = BufReader::with_capacity(BUFFER_BYTES, meter);
    let mut place = Place::new(temporary.path());
    let unpacked = match kind {
        Kind::Zip => zip::unpack(reader, &mut place),
        tar => tar::unpack(tar.reader(reader)?, &mut place),
    };
    say::progress("");
    unpacked.with_context(|| format!("{name} cannot be unpacked into {}", temporary.path().display()))?;
    let package = root_of(temporary.path())?;
    Ok(Unpacked { _temporary: temporary, package })
}

/// Where the package is: archives often hold one directory, and everything in it.
fn root_of(unpacked: &Path) -> io::Result<PathBuf> {
    if unpacked.join("kite.toml").exists() {
        return Ok(unpacked.to_owned());
    }
    let entries = std::fs::read_dir(unpacked)?.collect::<io::Result<Vec<_>>>()?;
    match &entries[..] {
        [only] if only.file_type()?.is_dir() => Ok(only.path()),
        _ => Ok(unpacked.to_owned()),
    }
}

/// The archive's bytes; shows on a terminal how far it is.
#[derive(Debug)]
struct Meter {
    inner: File,
    read: u64,
    bytes: u64,
    shown: Instant,
    stop: Arc<AtomicBool>,
}

impl Read for Meter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let length = self.inner.read(buffer)?;
        self.read += length as u64;
        if self.shown.elapsed() >= SHOW_PERIOD {
            self.shown = Instant::now();
            let percent = (self.read.min(self.bytes) * 100).checked_div(self.bytes).unwrap_or(100);
            say::progress(&format!("{percent:3} % unpacked"));
        }
        Ok(length)
    }
}

impl Seek for Meter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
