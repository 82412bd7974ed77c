//! X11: the window manager, its thread for Xwayland, and Xvfb as a source of its own.

pub(crate) mod manager;
mod screen;
mod selection;
pub(crate) mod wm;
mod xinput;
pub(crate) mod xvfb;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::StartError;

/// X servers check that a display's number leaves room for its TCP port.
const DISPLAYS: u32 = 59_000;

/// An argument that makes an X server its own display, whatever its socket is called (games see `:0`).
///
/// Servers name the keymap that they compile at their start after the display, in a directory that all of them share: two of one number
/// that start at once break each other's keyboard, which ends them.
pub(crate) fn own_display() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    /// Servers of one process before it uses numbers of a process that was started next.
    const PER_PROCESS: u32 = 31;
    let started = STARTED.fetch_add(1, Ordering::Relaxed) % PER_PROCESS;
    format!(":{}", std::process::id().wrapping_mul(PER_PROCESS).wrapping_add(started) % DISPLAYS + 1)
}

/// The directory of an X socket; both go when this does.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) dir: PathBuf,
}

impl Socket {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("X0")
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever owns the runtime directory may have removed them already.
        std::fs::remove_file(self.path()).ok();
        std::fs::remove_dir(&self.dir).ok();
    }
}

/// Listens on `x11/X0` in the runtime directory. What a dead source left is replaced.
pub(crate) fn listen(runtime_dir: &Path) -> Result<(Socket, UnixListener), StartError> {
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
        let listener = UnixListener::bind(&path)?;
        let socket = Socket { dir: dir.clone() };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
        Ok((socket, listener))
    };
    listen().map_err(|source| StartError::Listen { path: path.clone(), source })
}
