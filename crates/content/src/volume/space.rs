//! Space on the volume: what is used, what may go, removing it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::{Policy, Volume, VolumeError};
use crate::id::RootId;

/// A file in a copy's directory whose time says when it was last used, and whose text says how many bytes its files have.
const USED_FILE: &str = "used";

/// Bytes that are left free on the file system for everything else on it.
const RESERVE_BYTES: u64 = 256 << 20;

pub(super) fn touch(dir: &Path) {
    // A copy that is just being made or removed has none: that it was used matters to nobody then.
    if let Ok(file) = fs::File::options().write(true).open(dir.join(USED_FILE)) {
        let _unimportant = file.set_modified(SystemTime::now());
    }
}

/// Notes the copy's bytes, and that it is used now.
pub(super) fn write_bytes(dir: &Path, bytes: u64) -> io::Result<()> {
    fs::write(dir.join(USED_FILE), bytes.to_string())
}

pub(super) fn written_bytes(dir: &Path) -> Option<u64> {
    fs::read_to_string(dir.join(USED_FILE)).ok()?.parse().ok()
}

fn last_use(dir: &Path) -> SystemTime {
    fs::metadata(dir.join(USED_FILE)).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Removes a copy: out of sight by one rename, then file by file.
pub(super) fn remove(present: &Path, partial: &Path, grave: &Path) -> io::Result<()> {
    for dir in [present, partial] {
        match fs::rename(dir, grave) {
            Ok(()) => fs::remove_dir_all(grave)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes on disk below a directory; files with several names count once.
pub(super) fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let stat = entry.metadata()?;
            if stat.is_dir() {
                open.push(entry.path());
            } else if stat.nlink() == 1 || seen.insert((stat.dev(), stat.ino())) {
                bytes += stat.blocks() * 512;
            }
        }
    }
    Ok(bytes)
}

/// What can be written without going over the volume's limit or filling the file system.
fn free_bytes(volume: &Volume) -> Result<u64, VolumeError> {
    let settings = &volume.shared.settings;
    let failed = VolumeError::disk(&settings.dir.display());
    let stat = rustix::fs::statvfs(&settings.dir).map_err(|errno| failed(errno.into()))?;
    let on_disk = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(RESERVE_BYTES);
    match settings.limit_bytes {
        None => Ok(on_disk),
        Some(limit) => Ok(limit.saturating_sub(disk_bytes(&settings.dir).map_err(failed)?).min(on_disk)),
    }
}

/// Makes room for so many bytes of this release: copies that are neither used nor pinned go, first those that nobody asked to have here, of
/// these the one that was not used for longest. For a release that is only preferred, others that are preferred stay.
pub(super) async fn make_room(volume: &Volume, id: RootId, needed_bytes: u64) -> Result<(), VolumeError> {
    loop {
        let looking = volume.clone();
        let free = tokio::task::spawn_blocking(move || free_bytes(&looking)).await;
        let free_bytes = free.map_err(|error| VolumeError::Failed(error.to_string()))??;
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        let is_urgent = super::fetch::is_urgent(volume, id);
        let Some(root) = first_to_go(volume, id, is_urgent) else {
            return Err(VolumeError::Full { needed_bytes, free_bytes });
        };
        volume.evict(root).await?;
    }
}

fn first_to_go(volume: &Volume, id: RootId, is_urgent: bool) -> Option<RootId> {
    let replicas = volume.lock();
    let may_go = replicas.iter().filter_map(|(root, one)| {
        let is_here = matches!(one.state, super::ReplicaState::Present { .. } | super::ReplicaState::Failed { .. });
        let rank = match one.policy {
            Policy::Anywhere => 0,
            Policy::Preferred if is_urgent => 1,
            Policy::Preferred | Policy::Pinned => return None,
        };
        (*root != id && one.uses == 0 && !one.is_busy && is_here).then_some((rank, *root))
    });
    may_go.min_by_key(|(rank, root)| (*rank, last_use(&volume.present_dir(*root)))).map(|(_, root)| root)
}
