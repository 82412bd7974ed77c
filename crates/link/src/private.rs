//! Files that only their owner reads: keys. Written whole or not at all.
//!
//! A file is written beside its place, brought to the disk, and renamed: whoever is killed in between leaves the old
//! file, and a `.new` one that the next writer overwrites. A lock keeps two processes from making two keys at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest private file that is read. A key and two certificates take 3 kB.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The directory or a file in it cannot be used: look at its owner, its rights, and the disk's free space.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner have rights on a key: `chmod 600` it, and think of who may have read it.
    #[error("{path} is open to others than its owner: chmod 600 it")]
    Exposed {
        /// Which.
        path: PathBuf,
    },
}

/// A directory of private files. All calls block.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    dir: PathBuf,
}

impl PrivateDir {
    /// Makes the directory where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, PrivateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where a file is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits until no other process holds the lock; it is held until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, PrivateError> {
        let path = self.path("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed(&path))?;
        file.lock().map_err(failed(&path))?;
        Ok(file)
    }

    /// What a file has; `None` when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, PrivateError> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        };
        let metadata = file.metadata().map_err(failed(&path))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(PrivateError::Exposed { path });
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed(&path))?;
        Ok(Some(text))
    }

    /// Puts a file in the place of the older one.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), PrivateError> {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        // One that an earlier writer left may have other rights.
        remove(&new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed(&new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&new))?;
        fs::rename(&new, &path).map_err(failed(&path))?;
        self.sync()
    }

    /// Removes a file that may be there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), PrivateError> {
        remove(&self.path(name))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), PrivateError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed(&self.dir))
    }
}

fn remove(path: &Path) -> Result<(), PrivateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |source| PrivateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn files_are_their_owner_s_alone_and_a_broken_write_leaves_the_old_one() {
        let home = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(&home.path().join("a/b")).unwrap();
        assert_eq!(mode(&dir.dir), 0o700);
        assert_eq!(dir.read("key").unwrap(), None);
        dir.write("key", "one").unwrap();
        assert_eq!(mode(&dir.path("key")), 0o600);
        // What a writer leaves that is killed before its rename.
        fs::write(dir.path("key.new"), "tw").unwrap();
        assert_eq!(dir.read("key").unwrap().as_deref(), Some("one"));
        dir.write("key", "three").unwrap();
        assert_eq!(dir.read("key").unwrap().as_deref(), Some("three"));
        assert_eq!(mode(&dir.path("key")), 0o600);
        dir.remove("key").unwrap();
        dir.remove("key").unwrap();
        assert_eq!(dir.read("key").unwrap(), None);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(home.path()).unwrap();
        dir.write("key", "one").unwrap();
        fs::set_permissions(dir.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(dir.read("key"), Err(PrivateError::Exposed { .. })));
    }
}
