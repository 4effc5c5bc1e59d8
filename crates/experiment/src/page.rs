//! What the pages share: the frame, the style, how numbers are written, and drawings.

pub(crate) mod number;
pub(crate) mod plot;

use gatefold_metrics::ReliabilityBin;
use serde::Serialize;

/// One bin of a calibration curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Rows in the bin.
    pub rows: usize,
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share of positives.
    pub observed: f64,
}

impl From<ReliabilityBin> for CalibrationBin {
    fn from(bin: ReliabilityBin) -> Self {
        Self { rows: bin.rows, predicted: bin.mean_score, observed: bin.mean_label }
    }
}

/// Rows whose scores lie between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HistogramBin {
    /// Lowest score of the bin.
    pub low: f64,
    /// The score at which the next bin begins.
    pub high: f64,
    /// Rows with label 1.
    pub positives: usize,
    /// Rows with label 0.
    pub negatives: usize,
}

/// A complete page that needs nothing else: style and drawings are inside, there is no script, and
/// a content security policy forbids loading anything.
pub(crate) fn page(kind: &str, name: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{kind}: {}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(name),
        include_str!("page/page.css")
    )
}

/// Text made safe for content and attribute values.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
