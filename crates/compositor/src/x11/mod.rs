//! X11: the window manager, its thread for Xwayland, and Xvfb as a source of its own.

pub(crate) mod manager;
mod selection;
pub(crate) mod wm;
pub(crate) mod xvfb;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::StartError;

/// Listens on `x11/X0` in the runtime directory; returns the directory `x11`. What a dead source left is replaced.
pub(crate) fn listen(runtime_dir: &Path) -> Result<(PathBuf, UnixListener), StartError> {
    let dir = runtime_dir.join("x11");
    let path = dir.join("X0");
    let listen = || {
        if !dir.is_dir() {
            std::fs::create_dir(&dir)?;
        }
        if path.exists() {
            if UnixStream::connect(&path).is_ok() {
                return Err(std::io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(&path)?;
        }
        let socket = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
        Ok(socket)
    };
    match listen() {
        Ok(socket) => Ok((dir, socket)),
        Err(source) => Err(StartError::Listen { path, source }),
    }
}
