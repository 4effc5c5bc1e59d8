//! What this process has used so far, as Linux counts it.

use std::fs;

/// Use of the processor and of memory.
pub(crate) struct Resources {
    /// Time of all threads.
    pub(crate) cpu_seconds: f64,
    /// The most memory that was resident.
    pub(crate) peak_memory_mb: f64,
}

/// Not a number where the system does not say.
pub(crate) fn now() -> Resources {
    Resources {
        cpu_seconds: cpu_seconds().unwrap_or(f64::NAN),
        peak_memory_mb: peak_memory_mb().unwrap_or(f64::NAN),
    }
}

/// `utime` and `stime`, the 14th and 15th field of `/proc/self/stat`, in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name in parentheses, may hold spaces.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

fn peak_memory_mb() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}
