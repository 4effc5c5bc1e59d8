//! Processor time of this process, as Linux accounts it.

use std::fs;

/// Seconds of all threads so far, in user and system mode, to the hundredth; not a number where the
/// system does not say.
pub(crate) fn seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    read(&stat).unwrap_or(f64::NAN)
}

/// `utime` and `stime`, the 14th and 15th field, in hundredths of a second.
fn read(stat: &str) -> Option<f64> {
    // The second field, the program's name in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 9 0 0 0 250 50 0 0 20 0 1 0 5";
        assert_eq!(read(stat), Some(3.0));
        assert_eq!(read(""), None);
        let before = seconds();
        assert!(before >= 0.0 && seconds() >= before);
    }
}
