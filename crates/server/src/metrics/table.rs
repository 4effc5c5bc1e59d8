//! `deploy/METRICS.md` against the registry: every metric, with its type, labels and meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::Metrics;

const HEAD: &str = "# Metrics

Every metric that `/metrics` on the admin port shows, in the OpenMetrics text format. A histogram has \
the series `_bucket`, `_sum` and `_count`, a counter's series ends with `_total`. The series of a model version stay for ten minutes after it is \
unloaded.

This table is written from the registry by `WRITE_METRICS=1 cargo test --release -p gatefold-server metrics::table`.

| metric | type | labels | what it says |
|---|---|---|---|
";

/// One metric as the text format shows it.
#[derive(Default)]
struct Shown {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// The metrics in `text`, by name.
fn parse(text: &str) -> BTreeMap<String, Shown> {
    let mut metrics: BTreeMap<String, Shown> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => {
                current = (*name).to_owned();
                metrics.entry(current.clone()).or_default().help = help.trim_end_matches('.').to_owned();
            }
            ["#", "TYPE", name, kind] => {
                metrics.entry((*name).to_owned()).or_default().kind = (*kind).to_owned();
            }
            ["#", ..] => {}
            _ => {
                let shown = metrics.get_mut(&current).unwrap();
                let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                let Some((labels, _)) = labels else { continue };
                for label in labels.split(',').filter_map(|label| label.split_once('=')) {
                    let name = label.0.to_owned();
                    if name != "le" && !shown.labels.contains(&name) {
                        shown.labels.push(name);
                    }
                }
            }
        }
    }
    metrics
}

/// The name of the series that a query names first.
fn series(name: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    }
}

#[test]
fn the_table_lists_every_metric() {
    let metrics = Metrics::default();
    super::tests::fill(&metrics);
    let mut table = HEAD.to_owned();
    for (name, shown) in parse(&metrics.text()) {
        let labels = shown.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let name = series(&name, &shown.kind);
        writeln!(table, "| `{name}` | {} | {labels} | {} |", shown.kind, shown.help).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/METRICS.md");
    if std::env::var_os("WRITE_METRICS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &table).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written == table, "{} is not what is registered: write it as it says itself", file.display());
}

#[test]
fn a_metric_has_a_type_and_a_meaning_and_a_name_of_its_own() {
    let metrics = Metrics::default();
    super::tests::fill(&metrics);
    let text = metrics.text();
    let declared = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let shown = parse(&text);
    assert_eq!(shown.len(), declared);
    for (name, shown) in shown {
        assert!(!shown.kind.is_empty() && !shown.help.is_empty(), "{name}");
        let label_names: BTreeSet<&String> = shown.labels.iter().collect();
        assert_eq!(label_names.len(), shown.labels.len(), "{name}");
    }
}
