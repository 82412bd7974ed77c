//! Free space of a directory's disk.

use std::io;
use std::path::Path;

/// Free MiB for unprivileged users, or for root when the caller is root.
pub(crate) fn free_mb(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) / (1 << 20))
}
