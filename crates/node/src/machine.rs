//! What the machine has, and how busy it is.

use std::fs;

/// What is sold of each processor, as a multiple. What a session was learnt to take is close to its peak, and peaks of several seldom meet; a
/// processor that is asked for too much slows all a little. Less leaves processors idle, more lets frames come late whenever peaks do meet. It
/// also keeps what small machines could always do: with two sessions a processor each has a whole one.
pub const CPU_OVERCOMMIT: f32 = 2.0;

/// Of memory an eighth is kept for the system, the agent and what is fetched, within these bounds, in MiB. More lies idle; with less the kernel
/// ends what is played when something else grows. Memory is never sold twice: who has too little of it is killed.
const MEMORY_RESERVE: std::ops::RangeInclusive<u64> = 512..=4096;

/// Processors that this process may use.
#[must_use]
pub fn processors() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// So many processors, sold so many times, in thousandths.
#[must_use]
pub fn cpu_milli(processors: f32, overcommit: f32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` keeps within the type's bounds")]
    let milli = (processors * overcommit * 1000.0).round() as u32;
    milli
}

/// What of the machine's memory may be sold, in MiB; `None` when the kernel does not say how much there is.
pub(crate) fn memory_mib() -> Option<u32> {
    let total = total_memory_mib(&fs::read_to_string("/proc/meminfo").ok()?)?;
    u32::try_from(without_reserve(total)).ok()
}

fn without_reserve(total_mib: u64) -> u64 {
    total_mib.saturating_sub((total_mib / 8).clamp(*MEMORY_RESERVE.start(), *MEMORY_RESERVE.end()))
}

fn total_memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

/// Time of all processors together since the machine started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    /// As it is now; `None` when the kernel does not say.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of proc(5)'s `stat`: user, nice, system, idle, iowait, irq, softirq, steal. The guests' are in the first two.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|text| text.parse().ok()).collect();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(Self { idle, all: ticks.iter().sum() })
    }

    /// Idle thousandths since then.
    pub(crate) fn idle_permille_since(self, before: Self) -> u64 {
        let (idle, all) = (self.idle.saturating_sub(before.idle), self.all.saturating_sub(before.all));
        (idle * 1000).checked_div(all).unwrap_or(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_a_reserve() {
        let check = |total, expected| assert_eq!(without_reserve(total), expected, "{total} MiB");
        check(256, 0);
        check(2048, 1536);
        check(16_384, 14_336);
        check(262_144, 258_048);
        assert_eq!(total_memory_mib("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_111));
        assert_eq!(total_memory_mib("nothing"), None);
        assert!(memory_mib().is_some_and(|mib| mib > 0));
    }

    #[test]
    fn idleness_is_of_the_time_between() {
        let parse = |text| Ticks::parse(text).unwrap();
        let before = parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n");
        let after = parse("cpu  150 0 140 700 110 0 0 0 50 0\n");
        assert_eq!(after.idle_permille_since(before), 100);
        assert_eq!(before.idle_permille_since(before), 1000, "no time has passed");
        assert_eq!(Ticks::parse("intr 1 2 3"), None);
        assert!(Ticks::now().is_some());
    }

    #[test]
    fn processors_are_sold_more_than_once() {
        assert_eq!(cpu_milli(2.0, CPU_OVERCOMMIT), 4000);
        assert_eq!(cpu_milli(0.5, 1.5), 750);
        assert!(processors() > 0);
    }
}
