//! Zip archives.

use std::io::{Read as _, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use time::{Date, Month};
use zip::result::ZipError;
use zip::{System, ZipArchive};

use super::place::{Executable, Place};

/// Longest target of a symbolic link.
const MAX_LINK_BYTES: u64 = 4096;

/// Bits of a Unix mode that say what it is, what a symbolic link and what a file has there.
const KIND_BITS: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;
const REGULAR: u32 = 0o100_000;

pub(super) fn unpack(archive: impl std::io::Read + Seek, place: &mut Place) -> anyhow::Result<()> {
    let mut archive = ZipArchive::new(archive)?;
    for index in 0..archive.len() {
        let mut entry = match archive.by_index(index) {
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                bail!("it is encrypted: unpack it and push the directory")
            }
            entry => entry?,
        };
        let name = name(&entry.name()?);
        let shown = name.display();
        // Others have no modes, and what is told in place of them says nothing of who may run what.
        let mode = entry.unix_mode().filter(|_| matches!(entry.system(), System::Unix | System::OsDarwin));
        let kind = mode.map_or(0, |mode| mode & KIND_BITS);
        if entry.is_dir() {
            place.directory(&name)?;
        } else if kind == SYMLINK {
            let mut target = String::new();
            entry.take(MAX_LINK_BYTES).read_to_string(&mut target).with_context(|| format!("the link {shown}"))?;
            place.symlink(&name, Path::new(&target))?;
        } else if kind != 0 && kind != REGULAR {
            bail!("{shown} is neither a file nor a link (mode {kind:o}), which has no place in a package");
        } else {
            let said = mode.map(|mode| Executable::of_mode(&name, mode)).transpose()?;
            let executable = said.filter(|_| kind == REGULAR).unwrap_or(Executable::Perhaps);
            let modified = entry.last_modified().and_then(modified).unwrap_or(SystemTime::UNIX_EPOCH);
            place.file(&name, executable, modified, &mut entry)?;
        }
    }
    Ok(())
}

/// Some archives of Windows separate names its way.
fn name(text: &str) -> PathBuf {
    PathBuf::from(if text.contains('/') { text.to_owned() } else { text.replace('\\', "/") })
}

/// An archive has local times of an unknown place: they are taken for UTC, so that the same archive is the same package everywhere.
fn modified(at: zip::DateTime) -> Option<SystemTime> {
    let date = Date::from_calendar_date(i32::from(at.year()), Month::try_from(at.month()).ok()?, at.day()).ok()?;
    let at = date.with_hms(at.hour(), at.minute(), at.second().min(59)).ok()?.assume_utc();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at.unix_timestamp()).ok()?))
}
