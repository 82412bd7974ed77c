//! A file with an XFS file system in it, for machines whose own file system cannot share blocks between files: there the first write of a game to
//! one of its files copies the whole file, and in XFS it copies nothing.
//!
//! A mount outlives this process when it is killed; the next start finds it. Needs root, and the programs of `xfsprogs` and `util-linux`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `statfs` says of XFS.
const XFS_MAGIC: i64 = 0x5846_5342;

/// `nodev,nosuid`: nobody needs them there. `discard`: what is removed is given back to the disk that the file lies on.
const MOUNT_OPTIONS: &str = "nodev,nosuid,noatime,discard";

/// Smallest file system that `mkfs.xfs` makes, and some room.
const MIN_BYTES: u64 = 1 << 30;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Start Kite as root, or remove `volume.xfs_gb`.
    #[error("only root can mount a file system: start Kite as root, or remove `volume.xfs_gb`")]
    NotRoot,
    /// XFS does not shrink.
    #[error(
        "{path} has {has} bytes and cannot become smaller: raise `volume.xfs_gb`, or move the file away while Kite is stopped"
    )]
    Larger {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        has: u64,
    },
    /// Something else is mounted there.
    #[error("{0} is the mount point of another file system: unmount it")]
    Taken(PathBuf),
    /// The file, or the directory, cannot be made.
    #[error("{path} cannot be made or used")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program is missing, or did not do what it was asked.
    #[error("`{program}` failed (packages xfsprogs and mount): {message}")]
    Program {
        /// Which.
        program: String,
        /// What it said.
        message: String,
    },
}

/// A mounted image.
#[derive(Debug)]
pub struct Image {
    mount_point: PathBuf,
}

fn disk(path: &Path) -> impl Fn(io::Error) -> ImageError {
    move |source| ImageError::Disk { path: path.to_owned(), source }
}

/// Runs a program; what it printed.
fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<String, ImageError> {
    let failed = |message: String| ImageError::Program { program: program.to_owned(), message };
    // Where Debian has the programs of root, should PATH be that of somebody else.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    // In a group of its own: who stops Kite from a terminal would else end what it is in the middle of.
    let done = Command::new(program).env("PATH", path).args(arguments).args(paths).process_group(0).output();
    let done = done.map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned());
    }
    Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
}

impl Image {
    /// Makes the file system when there is none, lets it grow, mounts it. The file takes from the disk what is written into it. Blocks.
    pub fn open(file: &Path, mount_point: &Path, bytes: u64) -> Result<Image, ImageError> {
        if !rustix::process::geteuid().is_root() {
            return Err(ImageError::NotRoot);
        }
        fs::create_dir_all(mount_point).map_err(disk(mount_point))?;
        if is_mounted(mount_point)? {
            return Ok(Image { mount_point: mount_point.to_owned() });
        }
        let has = match fs::metadata(file) {
            Ok(stat) => stat.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(file, bytes.max(MIN_BYTES))?,
            Err(error) => return Err(disk(file)(error)),
        };
        if bytes < has && has > MIN_BYTES {
            return Err(ImageError::Larger { path: file.to_owned(), has });
        }
        if bytes > has {
            File::options().write(true).open(file).and_then(|file| file.set_len(bytes)).map_err(disk(file))?;
        }
        mount(file, mount_point)?;
        let image = Image { mount_point: mount_point.to_owned() };
        // Whether the file was made longer just now or by a start that was cut off: one that fills its file already stays as it is.
        run("xfs_growfs", &[], &[mount_point])?;
        tracing::info!(file = %file.display(), at = %mount_point.display(), bytes, "XFS image mounted");
        Ok(image)
    }

    /// Unmounts it, when nothing runs from it any more.
    pub fn close(self) -> Result<(), ImageError> {
        run("umount", &[], &[&self.mount_point]).map(drop)
    }
}

fn is_mounted(mount_point: &Path) -> Result<bool, ImageError> {
    let stat = |path: &Path| fs::metadata(path).map_err(disk(path));
    let parent = mount_point.parent().unwrap_or(mount_point);
    if stat(mount_point)?.dev() == stat(parent)?.dev() {
        return Ok(false);
    }
    let kind = rustix::fs::statfs(mount_point).map_err(|errno| disk(mount_point)(errno.into()))?;
    if kind.f_type == XFS_MAGIC { Ok(true) } else { Err(ImageError::Taken(mount_point.to_owned())) }
}

/// Makes the file system under another name first: a file that is there is whole.
fn make(file: &Path, bytes: u64) -> Result<u64, ImageError> {
    let partial = file.with_extension("partial");
    let sized = File::create(&partial).and_then(|file| file.set_len(bytes));
    sized.map_err(disk(&partial))?;
    run("mkfs.xfs", &["-q", "-f", "-m", "reflink=1,crc=1", "-L", "kite-site"], &[&partial])?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(disk(&partial))?;
    fs::rename(&partial, file).map_err(disk(file))?;
    Ok(bytes)
}

fn mount(file: &Path, mount_point: &Path) -> Result<(), ImageError> {
    // Directly: else everything would be in memory twice. Not every disk can.
    let device = run("losetup", &["--find", "--show", "--direct-io=on"], &[file])
        .or_else(|_cannot| run("losetup", &["--find", "--show"], &[file]))?;
    let mounted = run("mount", &["-t", "xfs", "-o", MOUNT_OPTIONS, &device], &[mount_point]);
    // When it is mounted this takes effect as soon as it is not.
    run("losetup", &["--detach", &device], &[]).and(mounted).map(drop)
}
