//! What the process itself uses, under the names that all clients of Prometheus give it.

use std::fmt;
use std::sync::OnceLock;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

#[derive(Debug)]
struct Process {
    began: f64,
}

/// When this was asked for first: as good as the start of the process.
fn began() -> f64 {
    static BEGAN: OnceLock<f64> = OnceLock::new();
    *BEGAN.get_or_init(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    })
}

pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("kite_build", "Which version of Kite this is", build);
    registry.register_collector(Box::new(Process { began: began() }));
    registry
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "seconds of a processor are far from 2^52")]
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        let help = "Processor time of the process itself, without games and streamers";
        let mut metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        metric.encode_counter::<[(&str, &str); 0], _, f64>(&cpu, None)?;
        let memory = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status));
        let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let gauges = [
            ("process_resident_memory_bytes", "Memory that the process has", memory.map(whole)),
            ("process_open_fds", "Files that it has open", files.map(|n| whole(n as u64))),
            ("process_max_fds", "Files that it may have open", getrlimit(Resource::Nofile).current.map(whole)),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        let help = "When it began, in seconds since 1970";
        let mut metric = encoder.encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&self.began)
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    5 kB\n"), Some(5 * 1024));
        assert_eq!(resident_bytes("VmRSS:\tmuch\n"), None);
        assert!(resident_bytes(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 100_000);
    }
}
