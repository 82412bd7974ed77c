//! Free space for instances.

use std::io;
use std::path::Path;

use crate::settings::NodeSettings;

/// Free MiB where instances write: in the work directory, and, where that is an image, on the disk that the image lies on.
pub(crate) fn free_mb(settings: &NodeSettings) -> io::Result<u64> {
    Ok(free_in(&settings.work_dir)?.min(free_in(&settings.data_dir)?))
}

/// For unprivileged users, or for root when the caller is root.
fn free_in(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) / (1 << 20))
}
