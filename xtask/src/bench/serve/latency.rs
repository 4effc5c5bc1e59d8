//! Latency of the servers under loads below their capacity.

use anyhow::Result;
use serde_json::{Value, json};

use super::Durations;
use super::competitor::{Competitor, loaded};
use super::quiet::Windows;
use super::throughput::Throughput;
use super::world::{Workload, World};
use crate::bars::{Bars, Limit};
use crate::program::Programs;
use crate::table::Table;

/// Shares of the capacity that are offered, in percent.
const SHARES: [u32; 4] = [30, 50, 70, 90];
/// The share whose tail has a bar.
const BAR_SHARE: u32 = 70;

/// Offers each server loads of one kind of requests; a table, and everything measured.
pub(super) fn measure(
    programs: &Programs,
    world: &World,
    competitors: &[Competitor],
    throughput: &Throughput,
    workload: &Workload,
    durations: &Durations,
    bars: &mut Bars,
) -> Result<(String, Value)> {
    let heading = format!("{} candidates a request", workload.name);
    let columns = ["load", "requests/s", "p50, ms", "p99", "p99.9", "errors", "stolen"].map(str::to_owned);
    let mut table = Table::with_heading([vec![heading], columns.to_vec()].concat());
    let mut raw = json!({ "workload": workload.name });
    let requests = world.requests(workload);
    for competitor in competitors {
        let Some(server) = competitor.server() else { continue };
        let flags = |more: &[&str]| -> Result<Value> {
            let flags: Vec<&str> = requests.iter().map(String::as_str).chain(more.iter().copied()).collect();
            loaded(programs, server, &flags)
        };
        let name = format!("({}) {}", competitor.letter, competitor.name);
        let load = format!("{}s", durations.load);
        let alone = format!("{}s", durations.turn);
        let mut report = |offered: String, measured: &Windows| -> Result<()> {
            let errors = measured.sum("requests") - measured.sum("answered");
            let milliseconds = |quantile: &str| -> Result<String> {
                Ok(format!("{:.2}", measured.median(&format!("latency_ms/{quantile}"))?))
            };
            table.row([
                name.clone(),
                offered,
                format!("{:.0}", measured.median("answered_per_second")?),
                milliseconds("p50")?,
                milliseconds("p99")?,
                milliseconds("p999")?,
                errors.to_string(),
                format!("{:.1} %", 100.0 * measured.stolen()),
            ]);
            Ok(())
        };
        // Requests of a mix have no common median.
        let has_bar = (competitor.letter, workload.name) == ("d", "200");
        let windows = |quiet: bool, asked: &[&str]| match quiet {
            true => Windows::measure(durations.windows, || flags(asked)),
            false => Windows::once(|| flags(asked)),
        };
        let one = ["--rate", "max", "--connections", "1", "--in-flight", "1", "--duration", &alone];
        let alone = windows(has_bar, &one)?;
        report("one at a time".to_owned(), &alone)?;
        let service = alone.median("latency_ms/p50")?;
        let capacity = throughput.capacity(workload, competitor.letter) / world.candidates(workload);
        for share in SHARES {
            let rate = format!("{:.3}", capacity * f64::from(share) / 100.0);
            let asked = ["--rate", &rate, "--duration", &load];
            let measured = windows(has_bar && share == BAR_SHARE, &asked)?;
            report(format!("{share} %"), &measured)?;
            if share == BAR_SHARE {
                let row = format!(
                    "({}) p99 at {share} % over the median alone, {}",
                    competitor.letter, workload.name
                );
                let ratio = measured.median("latency_ms/p99")? / service;
                match has_bar {
                    true => bars.bar(row, ratio, Limit::AtMost(6.0)),
                    false => bars.figure(row, ratio),
                }
            }
            raw[competitor.letter][share.to_string()] = measured.raw();
        }
        raw[competitor.letter]["alone"] = alone.raw();
    }
    Ok((table.render(), raw))
}
