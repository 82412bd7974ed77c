//! What a game, or what serves it, uses: from its control group, or from `/proc` where there is none.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;

/// Deepest chain of child processes that is followed without a control group.
const MAX_DEPTH: u8 = 16;

/// Clock ticks a second of `/proc/PID/stat`: fixed at 100 for every architecture that Linux runs games on.
const TICKS_PER_SECOND: u64 = 100;

/// Size of a page in `/proc/PID/statm`.
const PAGE_BYTES: u64 = 4096;

/// What a game used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its processes, those that ended included.
    pub cpu_time: Duration,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// Of it what cannot be taken away without hurting: without the files that were read and are not in use. Of a game that reads a large
    /// package once those are most of it.
    pub working_set_bytes: u64,
    /// Highest memory so far, in bytes. Without a control group the same as `memory_bytes`.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub processes: u64,
}

impl Usage {
    /// Of the processes in `group`, and below `init_pid` for what the group does not count.
    pub(crate) fn read(group: &Group, init_pid: i32) -> Self {
        let (cpu_time, memory, processes) = (group.cpu_time(), group.memory(), group.processes());
        let idle_files = group.idle_file_bytes();
        let mut walked = Self::default();
        if cpu_time.is_none() || memory.is_none() || processes.is_none() {
            walk(init_pid, MAX_DEPTH, &mut walked);
        }
        let (memory_bytes, memory_peak_bytes) = memory.unwrap_or((walked.memory_bytes, walked.memory_bytes));
        Self {
            cpu_time: cpu_time.unwrap_or(walked.cpu_time),
            memory_bytes,
            working_set_bytes: memory_bytes.saturating_sub(idle_files),
            memory_peak_bytes,
            processes: processes.unwrap_or(walked.processes),
        }
    }
}

/// Adds a process and those below it. A process that ends meanwhile counts nothing.
fn walk(pid: i32, depth: u8, usage: &mut Usage) {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return };
    // The name in parentheses may contain anything; what follows the last one does not.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    // utime, stime, cutime, cstime, num_threads of proc(5), counted from the state.
    let ticks: u64 = (11..15).map(field).sum();
    usage.cpu_time += Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    usage.processes += field(17);
    if let Ok(statm) = fs::read_to_string(format!("/proc/{pid}/statm")) {
        let number = |index| statm.split(' ').nth(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // Resident without what is shared with files.
        usage.memory_bytes += number(1).saturating_sub(number(2)) * PAGE_BYTES;
    }
    if depth == 0 {
        return;
    }
    for child in children_of_threads(pid) {
        walk(child, depth - 1, usage);
    }
}

/// Child processes of all threads of a process.
fn children_of_threads(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|text| text.parse().ok()).collect::<Vec<i32>>()).collect()
}

/// Child processes of a single-threaded process, oldest first.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|text| text.parse().ok()).collect()
}
