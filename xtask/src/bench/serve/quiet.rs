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
    pub(super) fn measure(wanted: u32, measure: impl FnMut() -> Result<Value>) -> Result<Self> {
        Self::by(Cores::now, wanted, measure)
    }

    /// One window, as it is.
    pub(super) fn once(mut measure: impl FnMut() -> Result<Value>) -> Result<Self> {
        let before = Cores::now()?;
        let measured = measure()?;
        Ok(Self(vec![Window { measured, stolen: before.stolen_until(&Cores::now()?) }]))
    }

    /// As [`Self::measure`], where `cores` tells the time.
    fn by(
        mut cores: impl FnMut() -> Result<Cores>,
        wanted: u32,
        mut measure: impl FnMut() -> Result<Value>,
    ) -> Result<Self> {
        let mut windows: Vec<Window> = Vec::new();
        for _ in 0..wanted * PATIENCE {
            if windows.iter().filter(|window| window.stolen <= QUIET).count() >= wanted as usize {
                break;
            }
            let before = cores()?;
            let measured = measure()?;
            windows.push(Window { measured, stolen: before.stolen_until(&cores()?) });
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

    /// The sum of a count, which a measurement leaves out where there was none to count.
    pub(super) fn sum(&self, figure: &str) -> f64 {
        self.0.iter().map(|window| number(&window.measured, figure).unwrap_or(0.0)).sum()
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

    /// Windows of 1000 ticks of which the host takes `stolen`, one after the other; the count of those measured.
    fn measured(wanted: u32, stolen: &[u64]) -> (Windows, usize) {
        let (mut looks, mut count) = (0, 0);
        let cores = || {
            // Each window is looked at before and after.
            let over = stolen.iter().take((looks + 1) / 2);
            looks += 1;
            Ok(Cores { busy: 1000 * looks as u64, stolen: over.sum() })
        };
        let windows = Windows::by(cores, wanted, || {
            count += 1;
            Ok(json!({ "window": count, "errors": { "LATE": count } }))
        });
        (windows.unwrap(), count)
    }

    #[test]
    fn windows_in_which_the_host_took_least_are_kept() {
        let kept = |windows: &Windows| -> Vec<u64> {
            windows.0.iter().filter_map(|window| window.measured["window"].as_u64()).collect()
        };
        // It ends with the third quiet one.
        let (windows, count) = measured(3, &[500, 4, 300, 0, 200, 2, 0]);
        assert_eq!((kept(&windows), count), (vec![4, 6, 2], 6));
        assert!((0.003..0.005).contains(&windows.stolen()));
        assert_eq!(windows.median("window").unwrap(), 4.0);
        assert_eq!(windows.sum("errors/LATE"), 12.0);
        assert_eq!(windows.sum("errors/OTHER"), 0.0);
        assert!(windows.median("other").is_err());
        // It does not wait for ever.
        let (windows, count) = measured(1, &[90, 80, 70, 60, 50, 55, 65, 75, 0]);
        assert_eq!((kept(&windows), count), (vec![5], 8));
    }
}
