//! Windows in which the machine was left alone: a virtual machine shares its host with others, and while
//! the host runs those, whatever is measured here waits. The kernel counts that time ("steal" of
//! `/proc/stat`), whoever is measured, so that windows can be chosen by it without a look at their results.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bench::median;
use crate::program::number;

/// A window is quiet where the host took at most this share of the time in which the cores had work.
const QUIET: f64 = 0.01;
/// So many windows may be measured for each that is wanted.
const PATIENCE: u32 = 8;

/// One measurement, and how much of it the host took.
struct Window {
    measured: Value,
    stolen: f64,
}

/// Those of several measurements of one thing in which the host took least.
pub(super) struct Windows(Vec<Window>);

impl Windows {
    /// Measures until `wanted` windows were quiet, or for [`PATIENCE`] times as many; keeps `wanted`.
    pub(super) fn measure(wanted: u32, mut measure: impl FnMut() -> Result<Value>) -> Result<Self> {
        let mut windows: Vec<Window> = Vec::new();
        for _ in 0..wanted * PATIENCE {
            if windows.iter().filter(|window| window.stolen <= QUIET).count() >= wanted as usize {
                break;
            }
            let before = Cores::now()?;
            let measured = measure()?;
            windows.push(Window { measured, stolen: before.stolen_until(&Cores::now()?) });
        }
        windows.sort_by(|a, b| a.stolen.total_cmp(&b.stolen));
        windows.truncate(wanted as usize);
        Ok(Self(windows))
    }

    /// The median of a figure.
    pub(super) fn median(&self, figure: &str) -> Result<f64> {
        let values: Result<Vec<f64>> = self.0.iter().map(|window| number(&window.measured, figure)).collect();
        Ok(median(&values?))
    }

    /// The median of what is made of each measurement.
    pub(super) fn median_of(&self, figure: impl Fn(&Value) -> f64) -> f64 {
        median(&self.0.iter().map(|window| figure(&window.measured)).collect::<Vec<_>>())
    }

    /// The largest share that the host took of one.
    pub(super) fn stolen(&self) -> f64 {
        self.0.iter().map(|window| window.stolen).fold(0.0, f64::max)
    }

    /// Everything measured.
    pub(super) fn raw(&self) -> Value {
        self.0.iter().map(|window| json!({ "measured": window.measured, "stolen": window.stolen })).collect()
    }
}

/// What all cores have done since the machine was started, in ticks of the kernel's clock.
struct Cores {
    busy: u64,
    stolen: u64,
}

impl Cores {
    fn now() -> Result<Self> {
        let path = "/proc/stat";
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        Self::read(&text).with_context(|| format!("no line of all cores in {path}"))
    }

    /// The first line: `cpu`, then user, nice, system, idle, waiting, interrupts, soft interrupts, stolen.
    fn read(text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_whitespace();
        words.next().filter(|name| *name == "cpu")?;
        let ticks: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let [user, nice, system, _, _, interrupts, soft, stolen, ..] = ticks[..] else { return None };
        Some(Self { busy: user + nice + system + interrupts + soft, stolen })
    }

    fn stolen_until(&self, later: &Self) -> f64 {
        let (busy, stolen) = (later.busy - self.busy, later.stolen - self.stolen);
        if stolen == 0 { 0.0 } else { stolen as f64 / (busy + stolen) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_takes_is_a_share_of_what_the_cores_worked() {
        let read = |line: &str| Cores::read(&format!("{line}\ncpu0 1 1 1 1\n")).unwrap();
        let (before, after) =
            (read("cpu  100 0 50 1000 7 1 2 40 0 0"), read("cpu  160 10 70 9000 9 2 11 60 0 0"));
        assert_eq!(before.stolen_until(&after), 20.0 / 120.0);
        assert_eq!(before.stolen_until(&before), 0.0);
        assert!(Cores::read("intr 5").is_none());
        assert!(Cores::read("cpu 1 2 3").is_none());
    }

    #[test]
    fn windows_in_which_the_host_took_least_are_kept() {
        let mut windows = Windows(Vec::new());
        for (p99, stolen) in [(9.0, 0.002), (5.0, 0.0), (7.0, 0.001)] {
            windows.0.push(Window { measured: json!({ "p99": p99 }), stolen });
        }
        assert_eq!(windows.median("p99").unwrap(), 7.0);
        assert_eq!(windows.stolen(), 0.002);
        assert!(windows.median("p50").is_err());
    }

    #[test]
    fn patience_ends() {
        let mut count = 0;
        let windows = Windows::measure(2, || {
            count += 1;
            Ok(json!({ "count": count }))
        });
        assert_eq!(windows.unwrap().0.len(), 2);
        assert!((2..=2 * PATIENCE).contains(&count));
    }
}
