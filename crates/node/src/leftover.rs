//! What a killed agent or streamer left on the machine: processes, directories, control groups.
//!
//! A process belongs to an instance when its environment names the instance ([`INSTANCE_VARIABLE`]), or when it runs as
//! the user that only this instance has. Games need no search: their sandbox ends with the agent that started it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use api::id::InstanceId;
use rustix::process::{Pid, Signal};

/// Variable in the environment of the streamer. What it starts dies with it.
pub(crate) const INSTANCE_VARIABLE: &str = "KITE_INSTANCE";

/// What was found and removed at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were killed.
    pub processes: usize,
    /// Directories that were removed.
    pub directories: usize,
    /// Control groups that were removed.
    pub control_groups: usize,
}

impl Swept {
    /// True when nothing was left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes everything that earlier agents left in these directories, and the processes that belong to it. Blocks.
pub(crate) fn sweep(instances_dir: &Path, runtime_dir: &Path) -> Swept {
    let mut swept = Swept::default();
    for dir in [instances_dir, runtime_dir] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(instance) = name.to_str().and_then(|name| name.parse::<InstanceId>().ok()) else { continue };
            swept.processes += kill_processes(instance, None);
            // By the whole name: another installation's group may be empty only because its game is just being started.
            swept.control_groups += sandbox::sweep(&instance.to_string()).len();
            match sandbox::remove_tree(&entry.path()) {
                Ok(()) => swept.directories += 1,
                Err(error) => tracing::warn!(%instance, %error, "a left directory cannot be removed"),
            }
        }
    }
    swept
}

/// Kills every process that belongs to an instance, and waits for them to be gone; how many there were. Blocks, usually
/// for less than a millisecond, at most for a second.
pub(crate) fn kill_processes(instance: InstanceId, own_uid: Option<u32>) -> usize {
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut killed = Vec::new();
    loop {
        let found = processes_of(instance, own_uid);
        if found.is_empty() {
            return killed.len();
        }
        for pid in found {
            // It may have ended meanwhile; a process that cannot be killed is counted by the deadline.
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
            if !killed.contains(&pid) {
                killed.push(pid);
            }
        }
        if Instant::now() >= deadline {
            tracing::warn!(%instance, "processes of the instance do not end");
            return killed.len();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes_of(instance: InstanceId, own_uid: Option<u32>) -> Vec<Pid> {
    let marker = format!("{INSTANCE_VARIABLE}={instance}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
            let dir = entry.path();
            let belongs = own_uid.is_some_and(|uid| runs_as(&dir, uid)) || has_marker(&dir, marker.as_bytes());
            if belongs && !is_zombie(&dir) { Pid::from_raw(pid) } else { None }
        })
        .collect()
}

fn runs_as(process: &Path, uid: u32) -> bool {
    let Ok(status) = fs::read_to_string(process.join("status")) else { return false };
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_whitespace().next()).is_some_and(|real| real == uid.to_string())
}

fn has_marker(process: &Path, marker: &[u8]) -> bool {
    fs::read(process.join("environ")).is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == marker))
}

fn is_zombie(process: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return true };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn marked_processes_are_killed_and_others_are_not() {
        let instance: InstanceId = "ins_0000000000000000000000000000abcd".parse().unwrap();
        let start =
            |id: &str| Command::new("sleep").arg("60").env(INSTANCE_VARIABLE, id).stdin(Stdio::null()).spawn().unwrap();
        let mut ours = start(&instance.to_string());
        let mut other = start("ins_0000000000000000000000000000abce");
        let reaper = std::thread::Builder::new().spawn(move || ours.wait().unwrap()).unwrap();
        assert_eq!(kill_processes(instance, None), 1);
        assert!(!reaper.join().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "a foreign process was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
