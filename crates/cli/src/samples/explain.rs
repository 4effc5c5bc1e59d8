//! `gatefold samples build --explain`: one impression through every stage.

use std::path::Path;

use anyhow::Result;
use comfy_table::{CellAlignment, Table};
use gatefold_samples::explain::{Event, Explanation, Listed, explain};
use gatefold_schema::{EncoderSet, Recipe};

use crate::console::{self, Console};

pub(super) fn run(
    recipe: &Recipe,
    logs: &Path,
    encoders: Option<EncoderSet>,
    impression: (&str, &str),
    json: bool,
    console: &Console,
) -> Result<()> {
    let found = explain(recipe, logs, encoders, impression, &mut console.steps())?;
    if json { console.print_json(&found) } else { console.print(&text(&found)) }
}

fn table(header: &[&str]) -> Table {
    let mut table = console::table(header.iter().map(|name| (*name).to_owned()).collect());
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Left));
    table
}

fn text(found: &Explanation) -> String {
    let labels: Vec<String> = found.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut text = format!(
        "request {} of user {} at {}: {} items\nitem {}, shown at {}\nsplit: {}\nlabels: {}\n",
        found.request,
        found.user,
        found.request_time,
        found.items,
        found.item,
        found.shown,
        found.split,
        labels.join(", ")
    );
    text += &events("Clicks on it", &found.clicks);
    text += &events("Conversions of its user and item", &found.conversions);
    for profile in &found.profiles {
        text += &format!("\nProfile of {} in {}\n", profile.key, profile.table);
        let columns =
            profile.versions.first().map_or_else(Vec::new, |version| version.values.keys().collect());
        let mut header = vec!["", "from", "written"];
        header.extend(columns.iter().map(|name| name.as_str()));
        header.push("why");
        let mut table = table(&header);
        for version in &profile.versions {
            let mut row = vec![mark(version.used).to_owned()];
            row.extend(
                [&version.from, &version.written].map(|time| time.clone().unwrap_or_else(|| "–".to_owned())),
            );
            row.extend(version.values.values().cloned());
            row.push(version.why.clone());
            table.add_row(row);
        }
        text +=
            &if profile.versions.is_empty() { "none is known\n".to_owned() } else { format!("{table}\n") };
    }
    for window in &found.aggregates {
        let shown = window.shown.map_or_else(String::new, |shown| format!(" of {shown} impressions"));
        text += &format!(
            "\n{} = {}\n{} events{shown}, {}, from {} to before the request\n",
            window.column, window.value, window.events, window.key, window.from
        );
        text += &listed(&window.listed);
    }
    for sequence in &found.sequences {
        text += &format!("\n{}: {} events\n", sequence.column, sequence.events.len());
        text += &listed(&sequence.events);
    }
    let mut table = table(&["feature", "from", "raw", "encoder", "encoded", "meaning"]);
    for value in &found.features {
        table.add_row([
            &value.feature,
            &value.from,
            &value.raw,
            &value.encoder,
            &value.encoded,
            &value.meaning,
        ]);
    }
    text + &format!("\nFeatures\n{table}\n")
}

fn mark(is_used: bool) -> &'static str {
    if is_used { "→" } else { "" }
}

fn events(title: &str, events: &[Event]) -> String {
    if events.is_empty() {
        return format!("\n{title}: none\n");
    }
    let mut table = table(&["", "time", "after", "why"]);
    for event in events {
        table.add_row([mark(event.counts), &event.time, &event.after, &event.why]);
    }
    format!("\n{title}\n{table}\n")
}

fn listed(events: &[Listed]) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut table = table(&["time", "before", "value"]);
    for event in events {
        table.add_row([&event.time, &event.before, &event.value]);
    }
    format!("{table}\n")
}
