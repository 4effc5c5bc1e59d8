//! Measured values beside the bars they have to reach.

use serde_json::{Map, Value, json};

use crate::table::Table;

/// The bars of one bench or reproduction, in the order they were measured.
#[derive(Default)]
pub(crate) struct Bars {
    bars: Vec<Bar>,
    figures: Vec<(String, f64)>,
}

struct Bar {
    row: String,
    value: f64,
    limit: Limit,
}

/// What a value has to satisfy.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
    Above(f64),
}

impl Limit {
    fn number(self) -> f64 {
        match self {
            Self::AtLeast(bar) | Self::AtMost(bar) | Self::Above(bar) => bar,
        }
    }

    fn sense(self) -> &'static str {
        match self {
            Self::AtLeast(_) => ">=",
            Self::AtMost(_) => "<=",
            Self::Above(_) => ">",
        }
    }

    /// False for a value that is not a number, too.
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
            Self::Above(bar) => value > bar,
        }
    }
}

impl Bars {
    pub(crate) fn bar(&mut self, row: impl Into<String>, value: f64, limit: Limit) {
        self.bars.push(Bar { row: row.into(), value, limit });
    }

    /// A measured value without a bar.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push((name.into(), value));
    }

    /// The bars that do not hold.
    pub(crate) fn missed(&self) -> Vec<&str> {
        let missed = self.bars.iter().filter(|bar| !bar.limit.holds(bar.value));
        missed.map(|bar| bar.row.as_str()).collect()
    }

    /// One line a bar.
    pub(crate) fn render(&self) -> String {
        let mut table = Table::new(["bar", "value", "wanted", ""]);
        for bar in &self.bars {
            let verdict = if bar.limit.holds(bar.value) { "ok" } else { "MISSED" };
            let wanted = format!("{} {}", bar.limit.sense(), bar.limit.number());
            table.row([bar.row.clone(), significant(bar.value), wanted, verdict.to_owned()]);
        }
        table.render()
    }

    /// `{"bars": {"<row>": {"value", "bar", "sense", "ok"}}, "figures": {"<name>": number}}`.
    pub(crate) fn json(&self) -> Value {
        let bars: Map<String, Value> = self
            .bars
            .iter()
            .map(|bar| {
                let ok = bar.limit.holds(bar.value);
                let entry = json!({
                    "value": bar.value, "bar": bar.limit.number(), "sense": bar.limit.sense(), "ok": ok,
                });
                (bar.row.clone(), entry)
            })
            .collect();
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({ "bars": bars, "figures": figures })
    }
}

/// Four decimals for small values, whole numbers for large ones.
fn significant(value: f64) -> String {
    if value.abs() >= 1000.0 { crate::table::thousands(value) } else { format!("{value:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_which_bars_hold() {
        let mut bars = Bars::default();
        bars.bar("ratio", 1.7, Limit::AtLeast(1.5));
        bars.bar("p99", 7.0, Limit::AtMost(6.0));
        bars.bar("gain", 0.0, Limit::Above(0.0));
        bars.bar("nothing measured", f64::NAN, Limit::AtLeast(0.0));
        bars.figure("rounds", 9.0);
        let expected = json!({
            "bars": {
                "ratio": {"value": 1.7, "bar": 1.5, "sense": ">=", "ok": true},
                "p99": {"value": 7.0, "bar": 6.0, "sense": "<=", "ok": false},
                "gain": {"value": 0.0, "bar": 0.0, "sense": ">", "ok": false},
                "nothing measured": {"value": null, "bar": 0.0, "sense": ">=", "ok": false},
            },
            "figures": {"rounds": 9.0},
        });
        assert_eq!(bars.json(), expected);
    }
}
