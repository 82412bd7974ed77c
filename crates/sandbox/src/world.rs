//! The game's file system, built by init in its own mount namespace and gone with it.
//!
//! Everything of the host is taken as a detached copy of a mount first, then a fresh tmpfs becomes the root and the copies
//! are put into it, so no path inside ever leads through a path outside.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};

use crate::protocol::{Failure, Input, Request, Step};
use crate::settings::{APP_DIR, HOME_DIR, Network, RUNTIME_DIR};
use crate::sys::{self, MOUNT_NO_DEVICES, MOUNT_NO_EXECUTION, MOUNT_NO_SUID, MOUNT_READ_ONLY, MountChange};

/// Where the new root is put together; any directory that every system has.
const STAGE: &str = "/tmp";

/// Where the overlay's parts are while it is mounted, below [`STAGE`].
const PARTS: &str = ".parts";

/// Room for `/` and `/dev`, which hold only directories and small files.
const ROOT_OPTIONS: &str = "mode=755,size=2m,nr_inodes=4096";

/// Room for `/run/kite`: sockets, and the small files that desktop libraries put into `XDG_RUNTIME_DIR`.
const RUNTIME_OPTIONS: &str = "mode=700,size=16m,nr_inodes=4096";

/// Nodes that every program expects and that give nothing away.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// What of `/etc` is harmless and needed: the linker, fonts, certificates, time zone, and the settings of graphics and
/// sound libraries.
const ETC: [&str; 29] = [
    "OpenCL",
    "X11",
    "alternatives",
    "asound.conf",
    "ca-certificates",
    "debian_version",
    "drirc",
    "fonts",
    "glvnd",
    "gtk-2.0",
    "gtk-3.0",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libva.conf",
    "locale.alias",
    "localtime",
    "magic",
    "mime.types",
    "openal",
    "os-release",
    "pulse",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
    "timidity",
    "vulkan",
    "xdg",
];

/// Files of `/proc` that say something about the host and nothing to a game.
const PROC_HIDDEN: [&str; 7] = ["kcore", "keys", "key-users", "timer_list", "kallsyms", "sysrq-trigger", "config.gz"];

/// Who owns what is made inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// True in a user namespace.
    pub(crate) mapped: bool,
}

/// What init needs to know of the world that was built.
#[derive(Debug)]
pub(crate) struct World {
    /// Groups that may use the graphics devices.
    pub(crate) device_groups: Vec<u32>,
    /// The package's files belong to the game by an id map.
    pub(crate) package_mapped: bool,
}

/// A detached copy of a host mount, to be put at `target`.
struct Copy {
    tree: OwnedFd,
    target: PathBuf,
    directory: bool,
}

/// What a copy may be used for.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
    /// One device node.
    Device,
    /// A directory of device nodes.
    Devices,
}

/// Builds the world and makes it this process's root.
pub(crate) fn build(
    request: &Request,
    owner: Owner,
    package_ids: Option<&OwnedFd>,
    fuse: Option<OwnedFd>,
) -> Result<World, Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| "make mounts private".into())?;
    let mut copies = host_runtime(request)?;
    copies.extend(sockets(request)?);
    let device_groups = devices(request, owner, &mut copies)?;
    copies.push(required(&request.home_dir, HOME_DIR, Access::Write)?);
    let package = match &request.package {
        Some(path) => Some(copy_mapped(path, APP_DIR, package_ids)?),
        None => None,
    };
    let (package, package_mapped) = package.map_or((None, false), |(package, mapped)| (Some(package), mapped));
    let layer = match &request.layer_dir {
        Some(path) => Some(required(path, "/", Access::Write)?),
        None => None,
    };

    temporary(STAGE, ROOT_OPTIONS, MountFlags::NOSUID | MountFlags::NODEV)?;
    skeleton(owner)?;
    temporaries(request, owner)?;
    let root = Path::new(STAGE);
    for entry in links() {
        make_link(entry)?;
    }
    for copy in &copies {
        put(copy)?;
    }
    match (package, layer) {
        (Some(package), Some(layer)) => overlay(&package, &layer, owner)?,
        (Some(package), None) => put(&package)?,
        (None, _) => make_directory(&inside(APP_DIR), 0o755)?,
    }
    proc_file_system()?;
    set_read_only(root)?;
    pivot(root)?;
    if let Some(device) = fuse {
        mount_pads(&device, owner)?;
    }
    Ok(World { device_groups, package_mapped })
}

fn inside(path: &str) -> PathBuf {
    Path::new(STAGE).join(path.trim_start_matches('/'))
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).step(|| format!("make {}", path.display()))
}

fn temporary(target: impl AsRef<Path>, options: &str, flags: MountFlags) -> Result<(), Failure> {
    let target = target.as_ref();
    let options = std::ffi::CString::new(options).step(|| "read mount options".into())?;
    mount("kite", target, "tmpfs", flags, Some(options.as_c_str()))
        .step(|| format!("mount a tmpfs at {}", target.display()))
}

/// A copy of a host path that must be there.
fn required(source: &Path, target: &str, access: Access) -> Result<Copy, Failure> {
    optional(source, Path::new(target), access)?.ok_or_else(|| Failure {
        step: format!("show {} to the game", source.display()),
        detail: "it does not exist".to_owned(),
        command: false,
    })
}

/// A copy of a host path, if it is there.
fn optional(source: &Path, target: &Path, access: Access) -> Result<Option<Copy>, Failure> {
    let Some(copy) = detach(source, target)? else { return Ok(None) };
    let attributes = match access {
        Access::Read => MOUNT_READ_ONLY | MOUNT_NO_SUID | MOUNT_NO_DEVICES,
        Access::Write => MOUNT_NO_SUID | MOUNT_NO_DEVICES,
        Access::Device | Access::Devices => MOUNT_NO_SUID | MOUNT_NO_EXECUTION,
    };
    // A directory of device nodes may be on a file system that is mounted without devices, as `/run` is.
    let clear = if matches!(access, Access::Devices) { MOUNT_NO_DEVICES } else { 0 };
    let change = MountChange { set: attributes, clear, recursive: true, ids: None };
    sys::change_mount(copy.tree.as_fd(), change).step(|| format!("restrict {}", source.display()))?;
    Ok(Some(copy))
}

/// A read-only copy in which the package's owner is the game, where the file system can do that.
/// Says whether it can: else the game can add files but not change those it came with.
fn copy_mapped(source: &Path, target: &str, ids: Option<&OwnedFd>) -> Result<(Copy, bool), Failure> {
    let copy = required(source, target, Access::Read)?;
    let map = |ids: &OwnedFd| {
        sys::change_mount(copy.tree.as_fd(), MountChange { ids: Some(ids.as_fd()), ..MountChange::default() })
    };
    let mapped = ids.is_some_and(|ids| map(ids).is_ok());
    Ok((copy, mapped))
}

fn detach(source: &Path, target: &Path) -> Result<Option<Copy>, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = match open_tree(CWD, source, flags) {
        Ok(tree) => tree,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).step(|| format!("copy the mount of {}", source.display())),
    };
    let stat = rustix::fs::fstat(&tree).step(|| format!("look at {}", source.display()))?;
    let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    Ok(Some(Copy { tree, target: target.to_owned(), directory }))
}

/// Puts a copy into the new root.
fn put(copy: &Copy) -> Result<(), Failure> {
    let path = Path::new(STAGE).join(copy.target.strip_prefix("/").unwrap_or(&copy.target));
    let what = || format!("put {} into the world", copy.target.display());
    if copy.directory {
        make_directory(&path, 0o755)?;
    } else {
        if let Some(parent) = path.parent() {
            make_directory(parent, 0o755)?;
        }
        drop(File::options().create(true).append(true).mode(0o644).open(&path).step(what)?);
    }
    move_mount(&copy.tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(what)
}

/// `/usr` and friends.
fn host_runtime(request: &Request) -> Result<Vec<Copy>, Failure> {
    let mut copies = vec![required(Path::new("/usr"), "/usr", Access::Read)?];
    let mut paths: Vec<PathBuf> = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]
        .iter()
        .map(|name| Path::new("/").join(name))
        .filter(|path| !path.is_symlink())
        .collect();
    paths.extend(ETC.iter().map(|name| Path::new("/etc").join(name)));
    if request.network == Network::Host {
        paths.push("/etc/resolv.conf".into());
    }
    // How many processors there are, which libraries ask for.
    paths.push("/sys/devices/system/cpu".into());
    paths.push("/var/cache/fontconfig".into());
    if request.gpu {
        // A driver finds its device by these. The order matters: a parent is put before what is in it.
        paths.retain(|path| !path.starts_with("/sys"));
        paths.extend(["/sys/devices", "/sys/dev/char", "/sys/class/drm"].map(PathBuf::from));
    }
    paths.extend(request.runtime.extra.iter().cloned());
    for path in paths {
        copies.extend(optional(&path, &path, Access::Read)?);
    }
    Ok(copies)
}

fn sockets(request: &Request) -> Result<Vec<Copy>, Failure> {
    let mut copies = Vec::new();
    let mut show = |path: &Option<PathBuf>, target: &str| -> Result<(), Failure> {
        if let Some(path) = path {
            let place = StreamersPlace::open(path)?;
            copies.push(required(&place.path(), target, Access::Read)?);
        }
        Ok(())
    };
    show(&request.sockets.wayland, &format!("{RUNTIME_DIR}/wayland-0"))?;
    show(&request.sockets.pulse, &format!("{RUNTIME_DIR}/pulse"))?;
    show(&request.sockets.x11_dir, "/tmp/.X11-unix")?;
    Ok(copies)
}

/// A path in a directory that belongs to a streamer, which serves a game that may have taken it over: opened without following any link, so
/// that it cannot lead elsewhere on the host.
struct StreamersPlace(OwnedFd);

impl StreamersPlace {
    fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), rustix::fs::ResolveFlags::NO_SYMLINKS);
        opened.map(Self).step(|| format!("open {} without following links", path.display()))
    }

    /// What was opened, whatever the path leads to by now.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Device nodes; returns the groups that own the graphics ones.
fn devices(request: &Request, owner: Owner, copies: &mut Vec<Copy>) -> Result<Vec<u32>, Failure> {
    for name in DEVICES {
        copies.push(required(&Path::new("/dev").join(name), &format!("/dev/{name}"), Access::Device)?);
    }
    if let Input::Directory(path) = &request.input {
        copies.push(required(path, "/dev/input", Access::Devices)?);
    }
    let mut groups = Vec::new();
    if !request.gpu {
        return Ok(groups);
    }
    let list = |directory: &str, prefix: &str| -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    };
    for path in list("/dev/dri", "renderD").into_iter().chain(list("/dev", "nvidia")) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.file_type().is_char_device() && metadata.mode() & 0o060 == 0o060 && !owner.mapped {
            groups.push(metadata.gid());
        }
        copies.extend(optional(&path, &path, Access::Device)?);
    }
    groups.retain(|group| *group != 0);
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// Directories and the made-up files of `/etc`.
fn skeleton(owner: Owner) -> Result<(), Failure> {
    for (path, mode) in [
        ("/etc", 0o755),
        ("/dev", 0o755),
        ("/dev/shm", 0o755),
        ("/dev/input", 0o755),
        ("/home", 0o755),
        ("/proc", 0o555),
        ("/sys", 0o555),
        ("/tmp", 0o755),
        ("/var", 0o755),
        ("/run/host", 0o755),
        (RUNTIME_DIR, 0o755),
    ] {
        make_directory(&inside(path), mode)?;
    }
    let Owner { uid, gid, .. } = owner;
    let id: [u8; 16] = random()?;
    let machine_id = format!("{:032x}\n", u128::from_le_bytes(id));
    let passwd = format!(
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nplayer:x:{uid}:{gid}:Player:{HOME_DIR}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let files = [
        ("/etc/passwd", passwd.as_str()),
        ("/etc/group", &format!("root:x:0:\nplayer:x:{gid}:\nnogroup:x:65534:\n")),
        ("/etc/hosts", "127.0.0.1 localhost kite\n::1 localhost\n"),
        ("/etc/hostname", "kite\n"),
        ("/etc/machine-id", &machine_id),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
        // Libraries ask this whether they are in a container: SDL then looks for pads without udev.
        ("/run/host/container-manager", "kite\n"),
    ];
    for (path, text) in files {
        fs::write(inside(path), text).step(|| format!("write {path}"))?;
    }
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    use std::io::Read;
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).step(|| "read random bytes".into())?;
    Ok(bytes)
}

/// The writable file systems in memory.
fn temporaries(request: &Request, owner: Owner) -> Result<(), Failure> {
    let Owner { uid, gid, .. } = owner;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    temporary(inside("/tmp"), &format!("mode=1777,size={}", request.limits.tmp_bytes), safe)?;
    temporary(inside("/dev/shm"), &format!("mode=1777,size={}", request.limits.shm_bytes), safe)?;
    temporary(inside(RUNTIME_DIR), &format!("{RUNTIME_OPTIONS},uid={uid},gid={gid}"), safe | MountFlags::NOEXEC)
}

/// Links: name inside, target.
fn links() -> Vec<(String, PathBuf)> {
    let mut links: Vec<(String, PathBuf)> = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/var/run", "/run"),
        ("/var/tmp", "/tmp"),
        ("/etc/mtab", "/proc/self/mounts"),
    ]
    .map(|(name, target)| (name.to_owned(), PathBuf::from(target)))
    .into();
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            links.push((format!("/{name}"), target));
        }
    }
    links
}

fn make_link((name, target): (String, PathBuf)) -> Result<(), Failure> {
    symlink(target, inside(&name)).step(|| format!("link {name}"))
}

/// The package below the layer.
fn overlay(package: &Copy, layer: &Copy, owner: Owner) -> Result<(), Failure> {
    let part = |name: &str| PathBuf::from(format!("{PARTS}/{name}"));
    put(&Copy {
        tree: package.tree.try_clone().step(|| "copy a descriptor".into())?,
        target: part("lower"),
        directory: true,
    })?;
    put(&Copy {
        tree: layer.tree.try_clone().step(|| "copy a descriptor".into())?,
        target: part("layer"),
        directory: true,
    })?;
    make_directory(&inside(APP_DIR), 0o755)?;
    let parts = Path::new(STAGE).join(PARTS);
    let at = parts.display();
    let mut options = format!("lowerdir={at}/lower,upperdir={at}/layer/upper,workdir={at}/layer/work");
    if owner.mapped {
        // Only the host's root may write the other kind of attribute.
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options).step(|| "read mount options".into())?;
    mount("kite", inside(APP_DIR), "overlay", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))
        .step(|| "mount the overlay of the package".into())?;
    for name in ["lower", "layer"] {
        unmount(parts.join(name), UnmountFlags::DETACH).step(|| "let go of the overlay's parts".into())?;
        fs::remove_dir(parts.join(name)).step(|| "let go of the overlay's parts".into())?;
    }
    fs::remove_dir(&parts).step(|| "let go of the overlay's parts".into())
}

/// A `/proc` of this process namespace alone, in which the game sees only its own.
fn proc_file_system() -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let target = inside("/proc");
    mount("proc", &target, "proc", flags, Some(c"hidepid=2")).step(|| "mount /proc".into())?;
    for name in PROC_HIDDEN {
        let path = target.join(name);
        if path.exists() {
            let null = required(Path::new("/dev/null"), "/", Access::Read)?;
            move_mount(&null.tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .step(|| format!("hide /proc/{name}"))?;
        }
    }
    for name in ["sys", "irq", "bus"] {
        let path = target.join(name);
        if !path.exists() {
            continue;
        }
        let tree = open_tree(
            CWD,
            &path,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
        )
        .step(|| format!("copy the mount of /proc/{name}"))?;
        sys::change_mount(
            tree.as_fd(),
            MountChange { set: MOUNT_READ_ONLY, recursive: true, ..MountChange::default() },
        )
        .step(|| format!("restrict /proc/{name}"))?;
        move_mount(&tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step(|| format!("restrict /proc/{name}"))?;
    }
    Ok(())
}

/// Closes `/`, `/etc` and `/dev` themselves; what is mounted in them is not touched.
fn set_read_only(root: &Path) -> Result<(), Failure> {
    let mount = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open the new root".into())?;
    sys::change_mount(mount.as_fd(), MountChange { set: MOUNT_READ_ONLY, ..MountChange::default() })
        .step(|| "make the new root read-only".into())
}

fn pivot(root: &Path) -> Result<(), Failure> {
    rustix::process::chdir(root).step(|| "enter the new root".into())?;
    rustix::process::pivot_root(".", ".").step(|| "change the root".into())?;
    unmount(".", UnmountFlags::DETACH).step(|| "let go of the old root".into())?;
    rustix::process::chdir("/").step(|| "enter the new root".into())
}

/// Last, because from here on `/dev/input` waits for its server.
fn mount_pads(device: &OwnedFd, owner: Owner) -> Result<(), Failure> {
    let (uid, gid) = if owner.mapped { (owner.uid, owner.gid) } else { (0, 0) };
    let options = format!("fd={},rootmode=40000,user_id={uid},group_id={gid},allow_other", device.as_raw_fd());
    let options = std::ffi::CString::new(options).step(|| "read mount options".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("kite-pads", "/dev/input", "fuse", flags, Some(options.as_c_str())).step(|| "mount the gamepads".into())
}

/// Makes what the world will be built from, on the host: the layer's parts and who owns them.
pub(crate) fn prepare_layer(layer: &Path, owner: Owner) -> Result<(), Failure> {
    for name in ["upper", "work"] {
        let path = layer.join(name);
        make_directory(&path, 0o755)?;
        if !owner.mapped {
            let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
            rustix::fs::chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .step(|| format!("give {} to the game", path.display()))?;
        }
    }
    Ok(())
}

/// Lets the game's uid connect to sockets that its streamer made for it. The directory they are in is closed to others.
pub(crate) fn open_sockets(request: &Request) -> Result<(), Failure> {
    let sockets = &request.sockets;
    let mut paths: Vec<PathBuf> = sockets.wayland.iter().chain(&sockets.pulse).cloned().collect();
    if let Some(directory) = &sockets.x11_dir {
        let place = StreamersPlace::open(directory)?;
        let entries = fs::read_dir(place.path()).step(|| format!("list {}", directory.display()))?;
        paths.extend(entries.flatten().map(|entry| directory.join(entry.file_name())));
    }
    for path in paths {
        let place = StreamersPlace::open(&path)?;
        let metadata = fs::metadata(place.path()).step(|| format!("look at {}", path.display()))?;
        if metadata.file_type().is_socket() && metadata.mode() & 0o666 != 0o666 {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777))
                .step(|| format!("open {} to the game", path.display()))?;
        }
    }
    Ok(())
}
