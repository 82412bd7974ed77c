//! Control groups of both versions: one group a game, under a directory `kite` beside or below our own group.
//!
//! Version 1 controllers nest below our own group of each hierarchy, so an outer limit still holds. Version 2 does not
//! let a group have both processes and children with controllers, so the first place that works is taken: below our own
//! group (when it was delegated to us empty), beside it, or below the root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::protocol::Mechanism;
use crate::settings::Limits;
use crate::usage::Usage;

/// The directory that holds the games' groups.
const PARENT: &str = "kite";

/// Period over which processor time is counted. Too long: a game that used up its share stands still for several frames
/// until the period ends (the kernel's 100 ms is six frames). Too short: accounting costs time.
const CPU_PERIOD_US: u64 = 10_000;

/// How long processes that are already dead may keep their group busy.
const REMOVE_WAIT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    /// Version 1 counts time apart from limiting it.
    CpuTime,
    Processes,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::CpuTime, Self::Processes];

    /// The kernel's name; version 2 has no `cpuacct` because every group counts.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::CpuTime => "cpuacct",
            Self::Processes => "pids",
        }
    }
}

/// One mounted hierarchy, and where we are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    unified: bool,
    /// Version 1: the controllers of it.
    controllers: Vec<String>,
    mount: PathBuf,
    /// Our own group's directory.
    own: PathBuf,
}

/// The directories of one game's group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    unified: bool,
    controllers: Vec<Controller>,
    directory: PathBuf,
}

impl Group {
    /// Makes the group with its limits. What the machine does not offer is left out: see [`Group::mechanism`].
    pub(crate) fn create(name: &str, limits: &Limits) -> Self {
        Self::with(&Controller::ALL, name, limits)
    }

    fn with(controllers: &[Controller], name: &str, limits: &Limits) -> Self {
        let mut group = Self::default();
        for hierarchy in hierarchies() {
            let missing: Vec<Controller> =
                controllers.iter().copied().filter(|controller| group.member(*controller).is_none()).collect();
            let made = if hierarchy.unified {
                hierarchy.make_unified(&missing, name)
            } else {
                hierarchy.make_version_1(&missing, name)
            };
            group.members.extend(made);
        }
        for &controller in controllers {
            if let Some(member) = group.member(controller)
                && let Err(error) = member.limit(controller, limits)
            {
                tracing::warn!(group = %member.directory.display(), %error, "cannot set a limit of the group");
                group.forget(controller);
            }
        }
        group
    }

    fn member(&self, controller: Controller) -> Option<&Member> {
        self.members.iter().find(|member| member.controllers.contains(&controller))
    }

    fn forget(&mut self, controller: Controller) {
        for member in &mut self.members {
            member.controllers.retain(|kept| *kept != controller);
        }
    }

    /// How the controller's limit is kept, if it is.
    pub(crate) fn mechanism(&self, controller: Controller) -> Option<Mechanism> {
        self.member(controller).map(|member| if member.unified { Mechanism::CgroupV2 } else { Mechanism::CgroupV1 })
    }

    /// Puts a process in.
    pub(crate) fn attach(&self, pid: i32) -> io::Result<()> {
        self.members.iter().try_for_each(|member| fs::write(member.directory.join("cgroup.procs"), pid.to_string()))
    }

    /// The processes in it; none where there is no group.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let list =
            self.members.first().and_then(|member| fs::read_to_string(member.directory.join("cgroup.procs")).ok());
        list.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Processor time used by every process that ever was in it.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        // Version 2 counts time in every group.
        let any = || self.members.iter().find(|member| member.unified);
        let member = self.member(Controller::CpuTime).or_else(|| self.member(Controller::Cpu)).or_else(any)?;
        if member.unified {
            member.field("cpu.stat", "usage_usec").map(Duration::from_micros)
        } else {
            member.number("cpuacct.usage").map(Duration::from_nanos)
        }
    }

    /// Memory in use and its highest value, in bytes.
    pub(crate) fn memory(&self) -> Option<(u64, u64)> {
        let member = self.member(Controller::Memory)?;
        if member.unified {
            let now = member.number("memory.current")?;
            Some((now, member.number("memory.peak").unwrap_or(now)))
        } else {
            Some((member.number("memory.usage_in_bytes")?, member.number("memory.max_usage_in_bytes")?))
        }
    }

    /// Memory in use by files that were read and are in use no more: the kernel takes it when anybody needs it. 0 where it is not known.
    pub(crate) fn idle_file_bytes(&self) -> u64 {
        let Some(member) = self.member(Controller::Memory) else { return 0 };
        let key = if member.unified { "inactive_file" } else { "total_inactive_file" };
        member.field("memory.stat", key).unwrap_or(0)
    }

    /// Processes and threads in it.
    pub(crate) fn processes(&self) -> Option<u64> {
        self.member(Controller::Processes)?.number("pids.current")
    }

    /// How many processes the kernel killed because the group was over its memory limit.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let Some(member) = self.member(Controller::Memory) else { return 0 };
        let file = if member.unified { "memory.events" } else { "memory.oom_control" };
        member.field(file, "oom_kill").unwrap_or(0)
    }

    /// Removes the group, and the directory of all groups when this was the last.
    pub(crate) fn remove(&self) {
        self.members.iter().for_each(Member::remove);
    }
}

/// A group of programs that serve one game from outside of its sandbox (its display, its sound): what a game makes them allocate is
/// theirs, so they need limits of their own.
#[derive(Debug)]
pub struct ServerGroup(Group);

impl ServerGroup {
    /// Makes it, with what the machine offers of the limits. Processor time is not limited: real-time threads could not run then.
    #[must_use]
    pub fn create(name: &str, memory_bytes: u64, processes: u32) -> ServerGroup {
        let limits = Limits { memory_bytes, processes, ..Limits::default() };
        ServerGroup(Group::with(&[Controller::Memory, Controller::Processes], name, &limits))
    }

    /// Puts a process in; all that it starts from now on is in, too.
    ///
    /// # Errors
    /// The kernel's, when the process is gone or may not be moved.
    pub fn attach(&self, pid: i32) -> io::Result<()> {
        self.0.attach(pid)
    }

    /// What they use, given the first of them, which started the others.
    #[must_use]
    pub fn usage(&self, pid: i32) -> Usage {
        Usage::read(&self.0, pid)
    }
}

impl Member {
    fn remove(&self) {
        if let Err(error) = remove_when_empty(&self.directory) {
            tracing::warn!(group = %self.directory.display(), %error, "cannot remove a group");
        }
        if let Some(parent) = self.directory.parent() {
            drop(fs::remove_dir(parent));
        }
    }

    fn limit(&self, controller: Controller, limits: &Limits) -> io::Result<()> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be 0.05 to 4096 before: quota is 500 to 41 million"
        )]
        let quota_us = (f64::from(limits.cpu_cores) * CPU_PERIOD_US as f64) as u64;
        // The kernel refuses quotas under a millisecond.
        let (quota_us, period_us) =
            if quota_us < 1000 { (quota_us * 10, CPU_PERIOD_US * 10) } else { (quota_us, CPU_PERIOD_US) };
        match (controller, self.unified) {
            (Controller::Memory, true) => {
                self.write("memory.max", limits.memory_bytes)?;
                // Absent without swap.
                drop(self.write("memory.swap.max", 0));
                Ok(())
            }
            (Controller::Memory, false) => {
                self.write("memory.limit_in_bytes", limits.memory_bytes)?;
                drop(self.write("memory.memsw.limit_in_bytes", limits.memory_bytes));
                Ok(())
            }
            (Controller::Cpu, true) => fs::write(self.directory.join("cpu.max"), format!("{quota_us} {period_us}")),
            (Controller::Cpu, false) => {
                self.write("cpu.cfs_period_us", period_us)?;
                self.write("cpu.cfs_quota_us", quota_us)
            }
            (Controller::CpuTime, _) => Ok(()),
            // Init and the gamepads' announcer are ours.
            (Controller::Processes, _) => self.write("pids.max", u64::from(limits.processes) + 2),
        }
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.directory.join(file), value.to_string())
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.directory.join(file)).ok()?.trim().parse().ok()
    }

    fn field(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.directory.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

impl Hierarchy {
    /// A group with those of the missing controllers that this hierarchy has.
    fn make_version_1(&self, missing: &[Controller], name: &str) -> Option<Member> {
        let has = |controller: &Controller| self.controllers.iter().any(|known| known == controller.name());
        let controllers: Vec<Controller> = missing.iter().copied().filter(has).collect();
        if controllers.is_empty() {
            return None;
        }
        let directory =
            self.parents().into_iter().map(|parent| parent.join(PARENT).join(name)).find(|path| make(path).is_ok())?;
        Some(Member { unified: false, controllers, directory })
    }

    /// One group, because a process can be in one only: where most of the missing controllers can be had.
    fn make_unified(&self, missing: &[Controller], name: &str) -> Option<Member> {
        let mut best: Option<Member> = None;
        for parent in self.parents() {
            let kite = parent.join(PARENT);
            // Time is counted in every group.
            let can = |directory: &Path| {
                let enabled =
                    |controller: &Controller| *controller == Controller::CpuTime || enable(directory, *controller);
                missing.iter().copied().filter(enabled).collect::<Vec<_>>()
            };
            let limited =
                |controllers: &[Controller]| controllers.iter().any(|controller| *controller != Controller::CpuTime);
            if !limited(&can(&parent)) || make(&kite.join(name)).is_err() {
                continue;
            }
            // Only now, because an empty `kite` may be removed by the end of another game.
            let member = Member { unified: true, controllers: can(&kite), directory: kite.join(name) };
            let worse = if limited(&member.controllers)
                && best.as_ref().is_none_or(|best| best.controllers.len() < member.controllers.len())
            {
                best.replace(member)
            } else {
                Some(member)
            };
            if let Some(worse) = worse {
                worse.remove();
            }
            if best.as_ref().is_some_and(|best| best.controllers.len() == missing.len()) {
                break;
            }
        }
        best
    }

    /// Directories under which groups can be made, best first.
    fn parents(&self) -> Vec<PathBuf> {
        let mut parents = vec![self.own.clone()];
        if self.own != self.mount {
            if self.unified {
                parents.extend(self.own.parent().map(Path::to_path_buf));
            }
            parents.push(self.mount.clone());
        }
        parents.dedup();
        parents
    }

    /// Where groups of earlier runs can be.
    fn all_parents(&self) -> Vec<PathBuf> {
        self.parents().into_iter().map(|parent| parent.join(PARENT)).collect()
    }
}

/// True when children of a version 2 group have the controller, which is turned on if need be.
fn enable(directory: &Path, controller: Controller) -> bool {
    let contains = |file: &str| {
        fs::read_to_string(directory.join(file))
            .is_ok_and(|text| text.split_whitespace().any(|name| name == controller.name()))
    };
    let switch = directory.join("cgroup.subtree_control");
    contains("cgroup.controllers")
        && (contains("cgroup.subtree_control") || fs::write(switch, format!("+{}", controller.name())).is_ok())
}

/// Makes the directory and its parent; again when someone removed the empty parent in between.
fn make(directory: &Path) -> io::Result<()> {
    for _ in 0..20 {
        match fs::create_dir_all(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn remove_when_empty(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + REMOVE_WAIT;
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
}

/// Removes the groups whose name begins with `prefix` and that no process is in: what a helper that was killed left.
/// Returns the names of those removed.
///
/// Groups are looked for below and beside the caller's own group, where [`Sandbox::start`](crate::Sandbox::start) makes
/// them.
#[must_use]
pub fn sweep(prefix: &str) -> Vec<String> {
    // The kernel refuses to remove a group that has processes, so a live one is safe.
    remove_each(prefix, |group| fs::remove_dir(group))
}

/// The same, but waits a moment for processes that are about to be gone.
pub fn remove_groups(prefix: &str) {
    drop(remove_each(prefix, remove_when_empty));
}

fn remove_each(prefix: &str, remove: impl Fn(&Path) -> io::Result<()>) -> Vec<String> {
    let mut removed = Vec::new();
    for parent in hierarchies().iter().flat_map(Hierarchy::all_parents) {
        let Ok(entries) = fs::read_dir(&parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && entry.path().is_dir() && remove(&entry.path()).is_ok() {
                removed.push(name);
            }
        }
        drop(fs::remove_dir(&parent));
    }
    removed.sort();
    removed.dedup();
    removed
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    parse_hierarchies(&mounts, &own)
}

/// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn parse_hierarchies(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        let (Some(root), Some(mount), Some(kind), Some(options)) =
            (front.get(3), front.get(4), back.first(), back.get(2))
        else {
            continue;
        };
        let unified = match *kind {
            "cgroup2" => true,
            "cgroup" => false,
            _ => continue,
        };
        let controllers: Vec<String> =
            if unified { Vec::new() } else { options.split(',').map(str::to_owned).collect() };
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let ours = if unified {
                names.is_empty()
            } else {
                names.split(',').any(|name| controllers.iter().any(|c| c == name))
            };
            ours.then_some(path)
        });
        let Some(path) = path else { continue };
        // In a container the mount shows only what is below `root`.
        let below = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/"));
        let mount = PathBuf::from(mount);
        let own = below.map_or_else(
            |_| mount.clone(),
            |below| if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) },
        );
        if !found.iter().any(|known| known.mount == mount) {
            found.push(Hierarchy { unified, controllers, mount, own });
        }
    }
    // A controller of version 1 is not offered by version 2, so the order only matters for `CpuTime`.
    found.sort_by_key(|hierarchy| hierarchy.unified);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &str, own: &str, expected: &[(bool, &str, &str)]) {
        let found: Vec<_> = parse_hierarchies(mounts, own)
            .into_iter()
            .map(|h| (h.unified, h.mount.display().to_string(), h.own.display().to_string()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(u, m, o)| (*u, (*m).to_owned(), (*o).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn version_2_alone() {
        check(
            "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/system.slice/kite.service\n",
            &[(true, "/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/kite.service")],
        );
    }

    #[test]
    fn version_1_nests_below_our_own_group() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "4:memory:/box/a\n2:cpu,cpuacct:/\n0::/\n",
            &[
                (false, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/box/a"),
                (false, "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                (true, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"),
            ],
        );
    }

    #[test]
    fn a_container_sees_its_own_root() {
        check(
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            "4:memory:/docker/abc\n",
            &[(false, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory")],
        );
    }
}
