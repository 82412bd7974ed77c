//! What a caller says about a game's world. Plain data; checked in [`Sandbox::check`], used by the helper.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fuse::FuseDevice;

/// Where the game sees its files.
pub const APP_DIR: &str = "/app";
/// Where the game sees its home.
pub const HOME_DIR: &str = "/home/player";
/// Where the game sees its sockets; its `XDG_RUNTIME_DIR`.
pub const RUNTIME_DIR: &str = "/run/kite";

/// Longest name of a sandbox. Names become directory names in the cgroup file system, which ends at 255.
const MAX_NAME: usize = 100;

/// One game's world. Make it with [`Sandbox::new`], fill in fields, then [`Sandbox::start`](crate::Sandbox::start).
#[derive(Debug)]
pub struct Sandbox {
    /// Unique on this machine, for instance the instance id: names the cgroup. Letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Program and arguments as seen inside. A program without `/` is looked up in the `PATH` inside.
    pub command: Vec<OsString>,
    /// Where the command starts, as seen inside. Default: `/app` with a package, else the home.
    pub working_dir: Option<PathBuf>,
    /// Variables over the defaults (`HOME`, `PATH`, `XDG_RUNTIME_DIR`, `DISPLAY` ...). Nothing of the caller's own
    /// environment is passed on.
    pub env: Vec<(OsString, OsString)>,
    /// The game's files on the host, shown at `/app`, never written.
    pub package: Option<PathBuf>,
    /// Where writes to `/app` go (`upper` and `work` are created in it). Must be on a file system that can be an overlay's
    /// upper layer (not another overlay). `None`: `/app` is read-only.
    pub layer_dir: Option<PathBuf>,
    /// The game's home on the host, shown at `/home/player`, writable, kept after exit. It must exist, and its parent
    /// should be closed to others (0700): the game may create set-uid files of its own uid in it.
    pub home_dir: PathBuf,
    /// What of the host is shown read-only.
    pub runtime: Runtime,
    /// The sockets that the game is given.
    pub sockets: Sockets,
    /// The game's `/dev/input`.
    pub gamepads: Gamepads,
    /// Show `/dev/dri` render nodes and NVIDIA devices, when there are any. Default: false.
    pub gpu: bool,
    /// Default: none.
    pub network: Network,
    /// Bounds.
    pub limits: Limits,
    /// Who the game is to the host.
    pub identity: Identity,
    /// Where standard output and error go. `None`: nowhere.
    pub log: Option<Log>,
    /// Default: native.
    pub syscalls: Syscalls,
    /// Path of `kite-sandbox`. Default: beside the running executable, or one directory up.
    pub helper: Option<PathBuf>,
}

/// What of the host a game may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Directories and files shown read-only at the same path, besides `/usr`, `/bin`, `/lib*` and the harmless part of
    /// `/etc` (linker cache, fonts, alternatives, certificates, graphics and sound drivers' settings). For a game of
    /// the distribution's packages with settings in `/etc/NAME`, name that. Missing ones are skipped.
    pub extra: Vec<PathBuf>,
}

/// Host paths of a game's sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// Shown as `/run/kite/wayland-0`; sets `WAYLAND_DISPLAY`.
    pub wayland: Option<PathBuf>,
    /// A directory with `X0` in it, shown as `/tmp/.X11-unix`; sets `DISPLAY=:0`.
    pub x11_dir: Option<PathBuf>,
    /// Shown as `/run/kite/pulse`; sets `PULSE_SERVER`.
    pub pulse: Option<PathBuf>,
}

/// The game's `/dev/input`.
#[derive(Debug, Default)]
pub enum Gamepads {
    /// There is none.
    #[default]
    None,
    /// Served through this FUSE device by someone (the streamer) who holds a duplicate of its descriptor. The game's
    /// accesses wait until the server answers; it must be there, or the game hangs in its joystick start.
    Fuse(FuseDevice),
    /// A directory of real device nodes (uinput), which may change while the game runs.
    Directory(PathBuf),
}

/// What network the game sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A loopback of its own, nothing else.
    #[default]
    None,
    /// The host's. The game can then reach everything that the host can, its loopback and abstract sockets included: only
    /// for games that are trusted or behind a firewall by uid.
    Host,
}

/// Bounds of one game. How each is enforced is in [`Enforced`](crate::Enforced).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all processes together, their files in `/tmp` and `/dev/shm` and page cache included. Over it, the
    /// kernel kills the game: [`Exit::OutOfMemory`](crate::Exit::OutOfMemory). Default 2 GiB.
    pub memory_bytes: u64,
    /// Processor cores. Default 2.
    pub cpu_cores: f32,
    /// Processes and threads together. Default 1024: too low breaks Wine, too high lets a fork bomb hurt.
    pub processes: u32,
    /// Open files a process. Default 4096 (Wine's esync wants many). Never above the caller's own hard limit.
    pub open_files: u64,
    /// Bytes in `home_dir` and `layer_dir` together. Looked at every two seconds and more rarely when that is dear: over
    /// it the game is ended with [`Exit::DiskFull`](crate::Exit::DiskFull). One file can never be larger. Default 4 GiB.
    pub disk_bytes: u64,
    /// Size of `/tmp`; counts as memory too. Default 256 MiB.
    pub tmp_bytes: u64,
    /// Size of `/dev/shm`; counts as memory too. Default 512 MiB: X and Wayland buffers live there.
    pub shm_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            cpu_cores: 2.0,
            processes: 1024,
            open_files: 4096,
            disk_bytes: 4 << 30,
            tmp_bytes: 256 << 20,
            shm_bytes: 512 << 20,
        }
    }
}

/// Who the game is to the host's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The caller is root: these ids, which belong to this game alone while it runs (not in `/etc/passwd`, for instance
    /// 200000 + slot). The home is given to them.
    Own {
        /// User id, never 0.
        uid: u32,
        /// Group id, never 0.
        gid: u32,
    },
    /// The caller is not root: its own ids, seen inside as 1000 by a user namespace. Games of one caller are kept apart by
    /// their namespaces alone.
    Caller,
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The newest output. When it is half of `max_bytes` long it is renamed to the same name with `.1` at its end.
    pub file: PathBuf,
    /// Both files together never exceed this. Default use: 4 MiB.
    pub max_bytes: u64,
}

/// Which system calls are left to the game.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Syscalls {
    /// Those of the machine's own architecture, without administration, tracing and rarely used attack surface.
    #[default]
    Native,
    /// Also 32-bit calls, `ptrace` of its own processes and `modify_ldt`: Wine and 32-bit games.
    Wine,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) field: &'static str,
    pub(crate) reason: String,
}

impl Sandbox {
    /// A world with safe defaults: no network, no devices, no package, [`Limits::default`].
    ///
    /// The identity is [`Identity::Caller`]; a root caller must set another.
    #[must_use]
    pub fn new(name: impl Into<String>, command: Vec<OsString>, home_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            command,
            working_dir: None,
            env: Vec::new(),
            package: None,
            layer_dir: None,
            home_dir: home_dir.into(),
            runtime: Runtime::default(),
            sockets: Sockets::default(),
            gamepads: Gamepads::None,
            gpu: false,
            network: Network::None,
            limits: Limits::default(),
            identity: Identity::Caller,
            log: None,
            syscalls: Syscalls::Native,
            helper: None,
        }
    }

    /// What would fail later with a less helpful message.
    pub(crate) fn check(&self, caller_is_root: bool) -> Result<(), Unusable> {
        let refuse = |field, reason: &str| Err(Unusable { field, reason: reason.to_owned() });
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty()
            || self.name.len() > MAX_NAME
            || !self.name.chars().all(plain)
            || self.name.starts_with('.')
        {
            return refuse("name", "must be 1 to 100 letters, digits, `_`, `-`, and `.` not at its start");
        }
        if self.command.first().is_none_or(|program| program.is_empty()) {
            return refuse("command", "is empty");
        }
        match self.identity {
            Identity::Own { uid: 0, .. } | Identity::Own { gid: 0, .. } => {
                return refuse("identity", "the game must not be root");
            }
            Identity::Own { .. } if !caller_is_root => {
                return refuse("identity", "only root can give a game another uid");
            }
            Identity::Caller if caller_is_root => return refuse("identity", "the caller is root: give the game a uid"),
            Identity::Own { .. } | Identity::Caller => {}
        }
        if self.layer_dir.is_some() && self.package.is_none() {
            return refuse("layer_dir", "is of no use without a package");
        }
        if !(self.limits.cpu_cores >= 0.05 && self.limits.cpu_cores <= 4096.0) {
            return refuse("limits.cpu_cores", "must be 0.05 to 4096");
        }
        if self.limits.memory_bytes < 16 << 20 {
            return refuse("limits.memory_bytes", "must be at least 16 MiB");
        }
        if self.limits.processes < 4 || self.limits.open_files < 16 {
            return refuse("limits", "at least 4 processes and 16 open files are needed");
        }
        if self.log.as_ref().is_some_and(|log| log.max_bytes < 4096) {
            return refuse("log.max_bytes", "must be at least 4096");
        }
        self.check_paths()
    }

    fn check_paths(&self) -> Result<(), Unusable> {
        let mut host: Vec<(&'static str, &Path)> = vec![("home_dir", &self.home_dir)];
        host.extend(self.package.as_deref().map(|path| ("package", path)));
        host.extend(self.layer_dir.as_deref().map(|path| ("layer_dir", path)));
        if let Gamepads::Directory(path) = &self.gamepads {
            host.push(("gamepads", path));
        }
        for (field, path) in host {
            if !path.is_absolute() || !path.is_dir() {
                let reason = format!("{} is no absolute path of a directory", path.display());
                return Err(Unusable { field, reason });
            }
        }
        if let Some(path) = self.runtime.extra.iter().find(|path| !is_plain_absolute(path)) {
            let reason = format!("{} is not absolute, or has `..` in it", path.display());
            return Err(Unusable { field: "runtime.extra", reason });
        }
        Ok(())
    }
}

/// Absolute and without `..`, so that joining it under a root stays under it.
pub(crate) fn is_plain_absolute(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Sandbox), root: bool, expected: Result<(), &'static str>) {
        let mut sandbox = Sandbox::new("ins_1", vec!["/bin/true".into()], "/tmp");
        if root {
            sandbox.identity = Identity::Own { uid: 200_001, gid: 200_001 };
        }
        change(&mut sandbox);
        assert_eq!(sandbox.check(root).map_err(|unusable| unusable.field), expected);
    }

    #[test]
    fn settings_are_checked() {
        check(|_| {}, true, Ok(()));
        check(|_| {}, false, Ok(()));
        check(|s| s.identity = Identity::Caller, true, Err("identity"));
        check(|s| s.identity = Identity::Own { uid: 0, gid: 5 }, true, Err("identity"));
        check(|s| s.identity = Identity::Own { uid: 5, gid: 5 }, false, Err("identity"));
        check(|s| s.name = "../escape".into(), true, Err("name"));
        check(|s| s.name = "..".into(), true, Err("name"));
        check(|s| s.name = "a/b".into(), true, Err("name"));
        check(|s| s.command.clear(), true, Err("command"));
        check(|s| s.layer_dir = Some("/tmp".into()), true, Err("layer_dir"));
        check(|s| s.home_dir = "relative".into(), true, Err("home_dir"));
        check(|s| s.package = Some("/nowhere/at/all".into()), true, Err("package"));
        check(|s| s.limits.cpu_cores = f32::NAN, true, Err("limits.cpu_cores"));
        check(|s| s.limits.memory_bytes = 0, true, Err("limits.memory_bytes"));
        check(|s| s.runtime.extra.push("/etc/../root".into()), true, Err("runtime.extra"));
    }
}
