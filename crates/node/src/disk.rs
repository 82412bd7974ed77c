//! Free space for instances.

use std::io;
use std::path::Path;

use crate::settings::NodeSettings;

/// Free MiB where instances write: in the work directory, and, where that is an image, on the disk that the image lies on.
pub(crate) fn free_mb(settings: &NodeSettings) -> io::Result<u64> {
    Ok(free_in(&settings.work_dir)?.min(free_in(&settings.data_dir)?))
}

fn free_in(dir: &Path) -> io::Result<u64> {
    Ok(space(dir)?.free_bytes / (1 << 20))
}

/// A disk's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// For unprivileged users, or for root when the caller is root.
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

/// Of the disk that a directory lies on.
pub(crate) fn space(dir: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}
