//! A data report as one HTML page that needs nothing else.

use super::{CHANGED, DataReport, DelayReport, FeatureReport, SHIFTED};
use crate::page::number::{ABSENT, count, fixed, fixed_or_absent, percent};
use crate::page::plot::marker;
use crate::page::{escape, page};

/// The number, in the style sheet, of the colour of curves and bars.
const COLOUR: usize = 1;

/// The report as a self-contained HTML page. The same report gives the same bytes.
pub fn render_html(report: &DataReport) -> String {
    let rows: u64 = report.splits.iter().map(|split| split.rows).sum();
    let mut body = format!(
        "<header>\n<p class=\"eyebrow\">Data report</p>\n<h1>{}</h1>\n<p class=\"lead\">{} rows, {} features. Encoders \
         <code>{}</code></p>\n</header>\n",
        escape(&report.name),
        number(rows),
        report.features.len(),
        escape(report.fingerprint.get(..12).unwrap_or(&report.fingerprint))
    );
    body += &warnings(report);
    body += &splits(report);
    body += &features(report);
    body += &drift_and_leaks(report);
    for (place, delay) in report.delays.iter().enumerate() {
        body += &delays(delay, place);
    }
    body += &values(report);
    body += &explanation();
    page("Data report", &report.name, &body)
}

fn number(value: u64) -> String {
    count(value as usize)
}

/// A share in percent, or the sign that there is none.
fn share(part: u64, all: u64) -> String {
    if all == 0 { ABSENT.to_owned() } else { percent(part as f64 / all as f64) }
}

fn warnings(report: &DataReport) -> String {
    if report.warnings.is_empty() {
        return String::new();
    }
    let mut html = "<section>\n<h2>Look at this first</h2>\n".to_owned();
    for warning in &report.warnings {
        html += &format!("<p class=\"note\">{}</p>\n", escape(warning));
    }
    html + "</section>\n"
}

fn head(columns: &[String]) -> String {
    let cells: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, name)| {
            let class = if place == 0 { "" } else { " class=\"n\"" };
            format!("<th scope=\"col\"{class}>{}</th>", escape(name))
        })
        .collect();
    format!("<div class=\"scroll\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", cells.concat())
}

fn row(name: &str, cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
    format!("<tr><th scope=\"row\">{name}</th>{}</tr>\n", cells.concat())
}

const END: &str = "</tbody>\n</table></div>\n";

/// Rows, times and outcomes of each split, and what was left out.
fn splits(report: &DataReport) -> String {
    let mut columns: Vec<String> = ["split", "rows", "requests", "first", "last"].map(str::to_owned).into();
    for task in report.splits.first().into_iter().flat_map(|split| &split.tasks) {
        columns.extend([format!("{} rows", task.task), "positives".to_owned(), "rate".to_owned()]);
    }
    let mut html =
        "<section>\n<h2>Splits</h2>\n<p class=\"soft\">A task counts the rows of its sample space.</p>\n"
            .to_owned();
    html += &head(&columns);
    for split in &report.splits {
        let [first, last] = split.times.clone().unwrap_or_else(|| [ABSENT, ABSENT].map(str::to_owned));
        let mut cells = vec![number(split.rows), number(split.requests), escape(&first), escape(&last)];
        for task in &split.tasks {
            let rate = task.rate().map_or_else(|| ABSENT.to_owned(), percent);
            cells.extend([number(task.rows), number(task.positives), rate]);
        }
        html += &row(&escape(&split.name), &cells);
    }
    html += END;
    let dropped: Vec<_> = report.dropped.iter().filter(|(_, rows)| **rows > 0).collect();
    html += "<h3>Rows left out</h3>\n";
    if dropped.is_empty() {
        html += "<p class=\"soft\">None.</p>\n";
    } else {
        html += &head(&["reason".to_owned(), "rows".to_owned()]);
        for (reason, rows) in dropped {
            html += &row(&escape(reason), &[number(*rows)]);
        }
        html += END;
    }
    html + "</section>\n"
}

/// Every feature: what is missing and unknown in each split.
fn features(report: &DataReport) -> String {
    let names = report.splits.iter().map(|split| split.name.as_str());
    let mut columns: Vec<String> = ["feature", "side", "encoder"].map(str::to_owned).into();
    columns.extend(names.clone().map(|name| format!("missing {name}")));
    columns.extend(names.map(|name| format!("unknown {name}")));
    let mut html =
        "<section>\n<h2>Features</h2>\n<p class=\"soft\">Values that are missing, and values that the \
                    vocabulary does not have.</p>\n"
            .to_owned();
    html += &head(&columns);
    for feature in &report.features {
        let mut cells = vec![escape(&feature.side), escape(&feature.encoder)];
        let rows = report.splits.iter().map(|split| split.rows);
        cells.extend(feature.splits.iter().zip(rows).map(|(split, rows)| share(split.missing, rows)));
        cells.extend(feature.splits.iter().map(|split| match split.out_of_vocabulary {
            Some(unknown) => share(unknown, split.values),
            None => ABSENT.to_owned(),
        }));
        html += &row(&escape(&feature.name), &cells);
    }
    html + END + "</section>\n"
}

/// Every feature: how far it has moved, and what it says of the outcomes.
fn drift_and_leaks(report: &DataReport) -> String {
    let mut columns = vec!["feature".to_owned()];
    columns.extend(report.splits.iter().skip(1).map(|split| format!("PSI {}", split.name)));
    let tasks = report.splits.first().map_or(&[][..], |split| &split.tasks);
    columns.extend(tasks.iter().map(|task| format!("AUC {}", task.task)));
    let mut html = "<section>\n<h2>Drift and leaks</h2>\n<p class=\"soft\">How far each split has moved from train, and \
                    how well the feature alone separates the outcomes.</p>\n"
        .to_owned();
    html += &head(&columns);
    for feature in &report.features {
        let mut cells: Vec<String> = feature.splits.iter().skip(1).map(|split| drift(split.psi)).collect();
        cells.extend(tasks.iter().map(|task| {
            let found = feature.separation.iter().find(|separation| separation.task == task.task);
            fixed_or_absent(found.map(|separation| separation.auc), 4)
        }));
        html += &row(&escape(&feature.name), &cells);
    }
    html + END + "</section>\n"
}

/// An index with its verdict by words and colour.
fn drift(psi: Option<f64>) -> String {
    let Some(psi) = psi else { return ABSENT.to_owned() };
    let (class, word) = match psi {
        psi if psi >= SHIFTED => ("worse", "shift"),
        psi if psi >= CHANGED => ("even", "change"),
        _ => return fixed(psi, 3),
    };
    format!("<span class=\"verdict {class}\">{word}</span> {}", fixed(psi, 3))
}

/// The share of events that had come by each time.
fn delays(delay: &DelayReport, place: usize) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 220.0;
    const LEFT: f64 = 52.0;
    const TOP: f64 = 12.0;
    let title = format!("{} after {}", delay.event, delay.since);
    let points = delay.within.len().max(2) - 1;
    let x = |at: usize| LEFT + WIDTH * at as f64 / points as f64;
    let part = |events: u64| events as f64 / delay.events.max(1) as f64;
    let y = |events: u64| TOP + HEIGHT * (1.0 - part(events));
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    let mut svg = format!(
        "<svg class=\"plot delay\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"delay-{place}-t\">\
         <title id=\"delay-{place}-t\">Share of events by the time of the {}</title>",
        right + 24.0,
        bottom + 30.0,
        escape(&title)
    );
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = TOP + HEIGHT * (1.0 - tick);
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 7.0,
            at + 4.0,
            percent(tick)
        );
    }
    let path: Vec<String> = delay
        .within
        .iter()
        .enumerate()
        .map(|(at, within)| format!("{:.1},{:.1}", x(at), y(within.events)))
        .collect();
    svg += &format!("<g class=\"m{COLOUR}\"><polyline class=\"curve\" points=\"{}\"/>", path.join(" "));
    for (at, within) in delay.within.iter().enumerate() {
        let title = format!("within {}: {} of {}", within.time, number(within.events), number(delay.events));
        svg += &marker(COLOUR - 1, x(at), y(within.events), 3.4, &title);
    }
    svg += "</g>";
    for (at, within) in delay.within.iter().enumerate() {
        svg += &format!(
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at),
            bottom + 18.0,
            escape(&within.time)
        );
    }
    svg += "</svg>";
    let mut html = format!(
        "<section>\n<h2>Delay: {}</h2>\n<p class=\"soft\">How many of {} had come within a time; steps on the axis are \
         not even.</p>\n<figure class=\"scroll\">{svg}</figure>\n<details><summary>As a table</summary>\n",
        escape(&title),
        number(delay.events)
    );
    html += &head(&["within", "events", "share"].map(str::to_owned));
    for within in &delay.within {
        html += &row(&escape(&within.time), &[number(within.events), share(within.events, delay.events)]);
    }
    html + END + "</details>\n</section>\n"
}

/// Frequent values and ranges, a fold a feature.
fn values(report: &DataReport) -> String {
    let mut html =
        "<section>\n<h2>Values</h2>\n<p class=\"soft\">The most frequent values of the training split, and the range of \
         numbers after encoding.</p>\n"
            .to_owned();
    for feature in &report.features {
        html += &format!("<details><summary>{}</summary>\n", escape(&feature.name));
        html += &ranges(report, feature);
        let all = feature.splits.first().map_or(0, |split| split.values);
        if !feature.top.is_empty() {
            html += &head(&["value", "count", "share"].map(str::to_owned));
            for top in &feature.top {
                html += &row(&escape(&top.value), &[number(top.count), share(top.count, all)]);
            }
            html += END;
        }
        html += "</details>\n";
    }
    html + "</section>\n"
}

fn ranges(report: &DataReport, feature: &FeatureReport) -> String {
    if feature.splits.iter().all(|split| split.numbers.is_none()) {
        return String::new();
    }
    let mut html = head(&["split", "min", "mean", "max"].map(str::to_owned));
    for (split, own) in report.splits.iter().zip(&feature.splits) {
        let Some(numbers) = own.numbers else { continue };
        let cells = [numbers.min, numbers.mean, numbers.max].map(|value| fixed(value, 4));
        html += &row(&escape(&split.name), &cells);
    }
    html + END
}

fn explanation() -> String {
    format!(
        "<footer>\n<h2>How to read this</h2>\n<dl>\n\
         <dt>Unknown</dt><dd>Values that the vocabulary does not have, as it was fitted on the training split or they \
         are too rare; of a sequence, elements.</dd>\n\
         <dt>PSI</dt><dd>Population stability index against the training split: the sum of (f − e) · ln(f / e) over \
         shares e of train and f of the split, of ten equal parts for numbers, else of the twenty most frequent values \
         and the rest. Below {} is no change, from {} on a shift.</dd>\n\
         <dt>AUC</dt><dd>Of the feature alone. Numbers: by value, in either direction, on train. Codes: by the rate \
         that each code has in train, on the next split that has rows. Sequences: by length. A feature that knows too \
         much is likely to have seen the outcome.</dd>\n\
         </dl>\n</footer>\n",
        fixed(CHANGED, 1),
        fixed(SHIFTED, 2)
    )
}
