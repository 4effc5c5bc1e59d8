//! How many candidates each competitor scores a second, and what they cost.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Durations;
use super::competitor::{Competitor, Turn};
use super::world::{WORKLOADS, Workload, World};
use crate::bars::{Bars, Limit};
use crate::bench::median;
use crate::program::Programs;
use crate::table::{Table, thousands};

/// All turns of all competitors.
pub(super) struct Throughput {
    /// Letter and name of each competitor.
    competitors: Vec<(&'static str, String)>,
    /// By workload, then by competitor.
    turns: Vec<Vec<Vec<Turn>>>,
}

impl Throughput {
    /// Lets every competitor take its turns on every workload; a first turn warms up.
    pub(super) fn measure(
        programs: &Programs,
        world: &World,
        competitors: &[Competitor],
        rounds: u32,
        durations: &Durations,
    ) -> Result<Self> {
        let mut turns = Vec::new();
        for workload in &WORKLOADS {
            let mut of_workload: Vec<Vec<Turn>> = competitors.iter().map(|_| Vec::new()).collect();
            for round in 0..=rounds {
                let seconds = if round == 0 { durations.turn.min(1.0) } else { durations.turn };
                for (competitor, turns) in competitors.iter().zip(&mut of_workload) {
                    let turn = competitor.turn(programs, world, workload, seconds)?;
                    if round > 0 {
                        turns.push(turn);
                    }
                }
            }
            same_scores(&of_workload)?;
            turns.push(of_workload);
        }
        let competitors = competitors.iter().map(|one| (one.letter, one.name.clone())).collect();
        Ok(Self { competitors, turns })
    }

    /// Median of a figure of one competitor on one workload.
    fn median(&self, workload: &str, letter: &str, figure: impl Fn(&Turn) -> f64) -> f64 {
        let place = WORKLOADS.iter().position(|known| known.name == workload);
        let competitor = self.competitors.iter().position(|(known, _)| *known == letter);
        let turns = place.zip(competitor).map(|(place, competitor)| &self.turns[place][competitor]);
        median(&turns.into_iter().flatten().map(figure).collect::<Vec<_>>())
    }

    /// Candidates a second.
    pub(super) fn capacity(&self, workload: &Workload, letter: &str) -> f64 {
        self.median(workload.name, letter, |turn| turn.candidates_per_second)
    }

    /// Cores that the load generator of a server takes at its capacity.
    pub(super) fn generator(&self, workload: &Workload, letter: &str) -> f64 {
        self.median(workload.name, letter, |turn| {
            let figure = |name| turn.raw[name].as_f64().unwrap_or(f64::NAN);
            figure("generator_cpu_seconds") / figure("seconds")
        })
    }

    /// Processor seconds a million candidates.
    fn cost(&self, workload: &str, letter: &str) -> f64 {
        self.median(workload, letter, |turn| turn.cpu_seconds)
    }

    /// Holds the ratios against their bars.
    pub(super) fn judge(&self, bars: &mut Bars) {
        let over =
            |workload: &str, one: &str, other: &str| self.cost(workload, one) / self.cost(workload, other);
        bars.bar("CPU a million candidates, (d) over (a), 200", over("200", "d", "a"), Limit::AtMost(0.65));
        bars.bar(
            "CPU a million candidates, (f) int8 over (a), 200",
            over("200", "f", "a"),
            Limit::AtMost(0.4),
        );
        if self.competitors.iter().any(|(letter, _)| *letter == "e") {
            bars.bar(
                "CPU a million candidates, (d) over (e), 200",
                over("200", "d", "e"),
                Limit::AtMost(0.4),
            );
        }
        for Workload { name, .. } in &WORKLOADS {
            for (letter, _) in &self.competitors {
                bars.figure(format!("({letter}) CPU s a million, {name}"), self.cost(name, letter));
            }
            bars.figure(format!("(b) over (a), {name}"), over(name, "b", "a"));
            bars.figure(format!("(d) over (a), {name}"), over(name, "d", "a"));
            bars.figure(format!("(d) over (c), {name}"), over(name, "d", "c"));
        }
    }

    /// One table a workload.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for workload in &WORKLOADS {
            let heading = format!("{} candidates a request", workload.name);
            let columns = ["candidates/s", "CPU s a million", "CPU over (a)"].map(str::to_owned);
            let mut table = Table::with_heading([vec![heading], columns.to_vec()].concat());
            for (letter, name) in &self.competitors {
                let cost = self.cost(workload.name, letter);
                table.row([
                    format!("({letter}) {name}"),
                    thousands(self.capacity(workload, letter)),
                    format!("{cost:.2}"),
                    format!("{:.2}", cost / self.cost(workload.name, "a")),
                ]);
            }
            text.push_str(&format!("{}\n", table.render()));
        }
        text.trim_end().to_owned() + "\n"
    }

    /// What every turn printed.
    pub(super) fn raw(&self) -> Value {
        let mut raw = json!({});
        for (workload, turns) in WORKLOADS.iter().zip(&self.turns) {
            for ((letter, _), turns) in self.competitors.iter().zip(turns) {
                raw[workload.name][*letter] = turns.iter().map(|turn| turn.raw.clone()).collect();
            }
        }
        raw
    }
}

/// The bare loops must give the same scores, or they do not run the same model.
fn same_scores(turns: &[Vec<Turn>]) -> Result<()> {
    let means = turns.iter().filter_map(|turns| turns.first()?.raw.get("mean_scores")?.as_array());
    let means: Vec<Vec<f64>> =
        means.map(|means| means.iter().filter_map(|mean| mean[1].as_f64()).collect()).collect();
    let first = means.first().context("no bare loop was measured")?;
    for other in &means[1..] {
        let same = first.len() == other.len() && first.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5);
        ensure!(same, "the bare loops give other mean scores: {first:?} and {other:?}");
    }
    Ok(())
}
