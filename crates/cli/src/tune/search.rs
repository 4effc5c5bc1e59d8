//! The search: for each setting the highest load within the goal, and among settings the best.

use anyhow::Result;
use gatefold_backend_ort::Device;
use gatefold_engine::Bundle;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::grid::{self, Setting};
use super::requests::Requests;
use super::trial::{Measured, Workshop};
use crate::bundles;
use crate::interrupt::Interrupt;

/// Loads tried for each setting: the fourth step of halving is 6 % of the capacity.
const HALVINGS: usize = 4;
/// Runs of each setting at most: its capacity, the loads, and one request at a time.
const RUNS: usize = 2 * HALVINGS + 2;
/// Settings after the coarse grid.
const FINER: usize = 4;
/// Throughput beyond the best within which the shorter tail decides.
const ALIKE: f64 = 0.05;
/// How often the load of the best is lowered where a second look does not keep the goal.
const SECOND_LOOKS: usize = 5;

/// A setting and the highest load that keeps the goal, or where none does one request at a time.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) setting: Setting,
    pub(super) measured: Measured,
    /// Whether the goal is kept.
    pub(super) keeps: bool,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        let Setting { workers, intra_threads, row_budget, batch_delay_us } = self.setting;
        let Measured { requests_per_second, candidates_per_second, p50_ms, p99_ms, cpu_seconds_a_million } =
            self.measured;
        json!({
            "workers": workers,
            "intra_threads": intra_threads,
            "row_budget": row_budget,
            "batch_delay_us": batch_delay_us,
            "keeps_goal": self.keeps,
            "requests_per_second": requests_per_second,
            "candidates_per_second": candidates_per_second,
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
            "cpu_seconds_a_million": cpu_seconds_a_million,
        })
    }
}

/// Everything that is tried.
pub(super) struct Search {
    workshop: Workshop,
    coarse: Vec<Setting>,
    smallest: usize,
    goal_ms: f64,
}

impl Search {
    /// A search of about `seconds`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn new(
        bundle: Bundle,
        requests: Requests,
        device: Device,
        goal_ms: f64,
        seconds: f64,
    ) -> Result<Self> {
        let coarse = grid::coarse(bundles::all_cores(), device, requests.mean());
        let runs = (coarse.len() + FINER) * RUNS + 2 * SECOND_LOOKS;
        let smallest = requests.smallest();
        let workshop = Workshop::new(bundle, requests, device, goal_ms, seconds / runs as f64)?;
        Ok(Self { workshop, coarse, smallest, goal_ms })
    }

    /// Runs at most.
    pub(super) fn runs(&self) -> usize {
        (self.coarse.len() + FINER) * RUNS + SECOND_LOOKS
    }

    /// Tries the coarse grid, then what lies around the best of it, and looks at the best again.
    ///
    /// # Errors
    /// A backend that cannot be opened or fails; an interruption.
    pub(super) fn run(&self, bar: &ProgressBar, interrupt: &Interrupt) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let try_all = |settings: &[Setting], rows: &mut Vec<Row>| -> Result<()> {
            for setting in settings {
                rows.push(self.row(*setting, bar, interrupt)?);
            }
            Ok(())
        };
        try_all(&self.coarse, &mut rows)?;
        if let Some(setting) = best(&rows).map(|row| row.setting) {
            try_all(&grid::budgets(setting, self.smallest), &mut rows)?;
        }
        if let Some(setting) = best(&rows).map(|row| row.setting) {
            try_all(&grid::delays(setting, self.goal_ms), &mut rows)?;
        }
        self.look_again(&mut rows, bar, interrupt)?;
        Ok(rows)
    }

    fn row(&self, setting: Setting, bar: &ProgressBar, interrupt: &Interrupt) -> Result<Row> {
        let first = bar.position();
        let trial = self.workshop.trial(setting)?;
        let run = |rate: f64| {
            interrupt.check()?;
            bar.inc(1);
            trial.open(rate, 1)
        };
        let capacity = trial.closed(trial.full())?.requests_per_second;
        bar.inc(1);
        let found = highest(capacity, |measured| self.keeps(measured), run)?;
        let row = match found {
            Some(measured) => Row { setting, measured, keeps: true },
            None => Row { setting, measured: trial.closed(1)?, keeps: false },
        };
        bar.set_position(first + RUNS as u64);
        Ok(row)
    }

    /// The best of many was lucky, too: it is measured again for twice as long with other arrivals, and
    /// its load is lowered until the goal is kept.
    fn look_again(&self, rows: &mut [Row], bar: &ProgressBar, interrupt: &Interrupt) -> Result<()> {
        let Some(setting) = best(rows).map(|row| row.setting) else { return Ok(()) };
        let trial = self.workshop.trial(setting)?;
        let Some(row) = rows.iter_mut().find(|row| row.setting == setting) else { return Ok(()) };
        let mut rate = row.measured.requests_per_second;
        for look in 0..SECOND_LOOKS {
            interrupt.check()?;
            bar.inc(1);
            row.measured = trial.open_longer(rate, 2 + look as u64)?;
            row.keeps = self.keeps(&row.measured);
            if row.keeps {
                break;
            }
            rate *= 0.85;
        }
        Ok(())
    }

    fn keeps(&self, measured: &Measured) -> bool {
        measured.p99_ms <= self.goal_ms
    }
}

/// The highest load below `capacity` that keeps the goal, found by halving. A load that does not is
/// tried once more: something else may have had the cores for a moment.
fn highest(
    capacity: f64,
    keeps: impl Fn(&Measured) -> bool,
    mut run: impl FnMut(f64) -> Result<Measured>,
) -> Result<Option<Measured>> {
    let (mut low, mut high, mut found) = (0.0, capacity, None);
    for _ in 0..HALVINGS {
        let rate = (low + high) / 2.0;
        let mut measured = run(rate)?;
        if !keeps(&measured) {
            measured = run(rate)?;
        }
        if keeps(&measured) {
            (low, found) = (rate, Some(measured));
        } else {
            high = rate;
        }
    }
    Ok(found)
}

/// The row that keeps the goal with the most candidates a second; of those nearly as many, the one
/// with the shortest tail.
pub(super) fn best(rows: &[Row]) -> Option<&Row> {
    let good = || rows.iter().filter(|row| row.keeps);
    let most = good().map(|row| row.measured.candidates_per_second).fold(0.0, f64::max);
    let alike = good().filter(|row| row.measured.candidates_per_second >= most * (1.0 - ALIKE));
    alike.min_by(|a, b| a.measured.p99_ms.total_cmp(&b.measured.p99_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(requests_per_second: f64, p99_ms: f64) -> Measured {
        Measured {
            requests_per_second,
            candidates_per_second: requests_per_second * 200.0,
            p50_ms: 1.0,
            p99_ms,
            cpu_seconds_a_million: 10.0,
        }
    }

    #[test]
    fn halving_finds_the_load_at_which_the_tail_reaches_the_goal() {
        // The time in a queue with one server, whose work takes 1 ms: it grows without bound towards 1000/s.
        let tail = |rate: f64| 1.0 / (1.0 - rate / 1000.0);
        let run = |rate: f64| Ok(measured(rate, tail(rate)));
        let keeps = |found: &Measured| found.p99_ms <= 4.0;
        let found = highest(1000.0, keeps, run).unwrap().unwrap();
        assert_eq!(found.requests_per_second, 750.0);
        assert!(highest(1000.0, |found| found.p99_ms <= 1.0, run).unwrap().is_none());
        let mut disturbed = false;
        let run = |rate| {
            let first = !std::mem::replace(&mut disturbed, true);
            Ok(measured(rate, if first { f64::INFINITY } else { tail(rate) }))
        };
        let found = highest(1000.0, keeps, run).unwrap().unwrap();
        assert_eq!(found.requests_per_second, 750.0, "a load that was disturbed is tried again");
    }

    #[test]
    fn of_settings_that_are_alike_the_shorter_tail_is_chosen() {
        let setting = |row_budget| Setting { workers: 2, intra_threads: 1, row_budget, batch_delay_us: 0 };
        let row = |row_budget, rate, p99, keeps| Row {
            setting: setting(row_budget),
            measured: measured(rate, p99),
            keeps,
        };
        let rows = [
            row(1, 1000.0, 19.0, true),
            row(2, 970.0, 12.0, true),
            row(3, 900.0, 5.0, true),
            row(4, 2000.0, 30.0, false),
        ];
        assert_eq!(best(&rows).unwrap().setting.row_budget, 2);
        assert!(best(&rows[3..]).is_none());
    }
}
