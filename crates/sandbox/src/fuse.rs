//! The `/dev/fuse` through which someone serves a game's gamepads.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::protocol::{receive_request, send_request};
use crate::{running, user_namespace};

/// The helper's argument for [`serve_descriptor`].
pub(crate) const FUSE_ARGUMENT: &str = "--fuse-device";

/// An open FUSE device that a sandbox can mount.
///
/// The kernel lets a device be mounted only in the user namespace in which it was opened. For root that is the host's;
/// otherwise a namespace is made for it, which the sandbox then joins.
#[derive(Debug)]
pub struct FuseDevice {
    pub(crate) device: OwnedFd,
    pub(crate) user_namespace: Option<OwnedFd>,
}

/// Why there is no FUSE device.
#[derive(Debug, thiserror::Error)]
pub enum FuseError {
    /// The kernel has no FUSE, the device file is missing in this container, or it is closed to this user (it is 0666 on
    /// most distributions).
    #[error("cannot open /dev/fuse")]
    Device(#[source] io::Error),
    /// The helper that opens it in a user namespace could not be run.
    #[error("cannot run {}", path.display())]
    Helper {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper could not make a user namespace or open the device: see the text.
    #[error("cannot open /dev/fuse in a user namespace: {0}")]
    Namespace(String),
}

impl FuseDevice {
    /// Opens a device. `helper` is as in [`Sandbox::helper`](crate::Sandbox::helper), needed only when not root.
    ///
    /// # Errors
    /// See [`FuseError`].
    pub fn open(helper: Option<&Path>) -> Result<Self, FuseError> {
        if rustix::process::geteuid().is_root() {
            let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(FuseError::Device)?;
            return Ok(Self { device: device.into(), user_namespace: None });
        }
        let path = running::helper_path(helper);
        let failed = |source| FuseError::Helper { path: path.clone(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(&path)
            .arg(FUSE_ARGUMENT)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let answer = receive_request::<Result<(), String>>(&ours);
        child.wait().map_err(failed)?;
        let (result, descriptors) = answer.map_err(failed)?;
        result.map_err(FuseError::Namespace)?;
        let mut descriptors = descriptors.into_iter();
        let (Some(device), user_namespace @ Some(_)) = (descriptors.next(), descriptors.next()) else {
            return Err(FuseError::Namespace("the helper sent no descriptors".to_owned()));
        };
        Ok(Self { device, user_namespace })
    }

    /// A duplicate of the device for the process that will serve it.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn server_descriptor(&self) -> io::Result<OwnedFd> {
        self.device.try_clone()
    }
}

impl AsFd for FuseDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// In the helper: opens the device in a new user namespace and sends both.
pub(crate) fn serve_descriptor(socket: &UnixStream) -> io::Result<()> {
    let open = || {
        user_namespace::enter_new().map_err(|error| format!("no user namespace: {error}"))?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|error| format!("/dev/fuse: {error}"))?;
        let namespace =
            std::fs::File::open("/proc/self/ns/user").map_err(|error| format!("/proc/self/ns/user: {error}"))?;
        Ok::<_, String>((device, namespace))
    };
    match open() {
        Ok((device, namespace)) => send_request(socket, &Ok::<(), String>(()), &[device.as_fd(), namespace.as_fd()]),
        Err(error) => send_request(socket, &Err::<(), String>(error), &[]),
    }
}
