//! The process as the kernel sees it, under the names that Prometheus clients agreed on. Read at
//! every collection; without `/proc` there are none.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Ticks a second in `/proc/<pid>/stat`: a constant of the kernel's interface (USER_HZ) on every
/// architecture that ONNX Runtime is built for.
const TICKS: f64 = 100.0;

/// Reads `/proc/self`.
#[derive(Debug)]
pub(super) struct Process;

/// What is told of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}"));
        let usage = read("stat").and_then(|stat| Ok(usage(&stat, &read("status")?)));
        if let Ok(Some(usage)) = usage {
            let cpu = ConstCounter::new(usage.cpu_seconds);
            let help = "User and system CPU time";
            let described =
                encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?;
            cpu.encode(described)?;
            let bytes = Some(&Unit::Bytes);
            gauge(&mut encoder, "process_resident_memory", "Resident memory", bytes, usage.resident_bytes)?;
            gauge(&mut encoder, "process_threads", "Threads", None, usage.threads)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them reads the folder.
            let open = files.count().saturating_sub(1) as u64;
            gauge(&mut encoder, "process_open_fds", "Open file handles", None, open)?;
        }
        if let Some(most) = read("limits").ok().as_deref().and_then(file_limit) {
            gauge(&mut encoder, "process_max_fds", "File handles that may be open", None, most)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: u64,
) -> std::fmt::Result {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let described = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
    gauge.encode(described)
}

/// Parses `/proc/<pid>/stat` and `/proc/<pid>/status`, see proc(5).
fn usage(stat: &str, status: &str) -> Option<Usage> {
    // The name of the program stands in brackets and may hold anything; counted from behind it the
    // state is field 0, utime 11 and stime 12.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage {
        cpu_seconds: (ticks(11)? + ticks(12)?) as f64 / TICKS,
        resident_bytes: value("VmRSS")? * 1024,
        threads: value("Threads")?,
    })
}

/// The soft limit of open files in `/proc/<pid>/limits`; the largest number when there is none.
fn file_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_read() {
        let stat = "4242 (a (odd) name) S 1 4242 4242 0 -1 4194560 99 0 0 0 1234 66 0 0 20 0 9 0 77 1 2";
        let status = "Name:\ta (odd) name\nVmRSS:\t   2048 kB\nRssAnon:\t 12 kB\nThreads:\t9\n";
        let expected = Usage { cpu_seconds: 13.0, resident_bytes: 2 << 20, threads: 9 };
        assert_eq!(usage(stat, status), Some(expected));
        assert_eq!(usage("", status), None);
        assert_eq!(usage(stat, "VmRSS: none kB\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(file_limit(limits), Some(1024));
        let unlimited = "Max open files            unlimited            unlimited            files\n";
        assert_eq!(file_limit(unlimited), Some(u64::MAX));
        assert_eq!(file_limit(""), None);
    }

    #[test]
    fn this_process_is_seen() {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        let seen = usage(&read("stat"), &read("status")).unwrap();
        assert!(seen.resident_bytes > 1 << 20 && seen.threads >= 1, "{seen:?}");
    }
}
