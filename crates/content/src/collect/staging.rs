//! What writers that were killed left in a local store: `packs/ab/abcd…#1` and `clock#1`, which nobody lists and nobody reads.
//!
//! A name of that form that was changed long ago has no writer any more: a put takes seconds.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Amount;
use crate::id::PackId;
use crate::store::{CLOCK, ObjectKind};

/// Removes those that are older than the grace, or only counts them.
pub(super) fn remove(dir: &Path, now: SystemTime, grace: Duration, is_dry_run: bool) -> io::Result<Amount> {
    let mut removed = Amount::default();
    for file in staged(dir)? {
        // One that is gone was finished meanwhile.
        let Some(about) = there(file.metadata())? else { continue };
        let is_old = now.duration_since(about.modified()?).is_ok_and(|age| age >= grace);
        if about.is_file() && is_old {
            if !is_dry_run {
                there(fs::remove_file(file.path()))?;
            }
            removed.add(about.len());
        }
    }
    Ok(removed)
}

/// Everything with a name of that form.
fn staged(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut staged = entries(dir)?;
    for kind in ObjectKind::ALL {
        for start in entries(&dir.join(kind.directory()))? {
            if start.file_type()?.is_dir() {
                staged.extend(entries(&start.path())?);
            }
        }
    }
    staged.retain(|file| file.file_name().to_str().is_some_and(is_staging));
    Ok(staged)
}

/// What is in a directory; nothing when there is none.
fn entries(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    there(fs::read_dir(dir))?.map_or(Ok(Vec::new()), Iterator::collect)
}

/// `None` of what is not there.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An object's id or the clock's name, `#`, a number.
fn is_staging(name: &str) -> bool {
    let Some((id, number)) = name.split_once('#') else { return false };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && (id == CLOCK || id.parse::<PackId>().is_ok())
}
