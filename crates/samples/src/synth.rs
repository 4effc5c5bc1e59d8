//! Synthetic event logs with a known truth.
//!
//! A shop shows 10 to 20 items a request to users with latent tastes, for ten days. Popularity and
//! activity follow Zipf's law; users and items that nobody has seen appear on the last day;
//! conversions come hours to days after their clicks; logs hold what real ones do: impressions
//! sent twice, clicks twice or days late, conversions twice, without a click or too late, rows out
//! of order, missing values, users without a profile. The probabilities of a click and of a
//! conversion are known functions of the features ([`truth`]), so the AUC that no model
//! can beat is known as well.

mod events;
mod tables;
mod truth;
mod world;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Progress, SamplesError, folder::StagedFolder};

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SynthConfig {
    /// Impressions, not counting those sent twice.
    pub impressions: usize,
    /// Users.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// Cosine between what makes a click and what makes a conversion, -1 to 1.
    pub correlation: f64,
    /// How strongly the features decide what is clicked: the click logits spread this many times as
    /// widely as usual. The more, the less the clicked impressions resemble all of them.
    pub selection: f64,
    /// Seed of everything random.
    pub seed: u64,
}

impl SynthConfig {
    /// As many users and items as suit a number of impressions.
    pub fn new(impressions: usize, seed: u64) -> Self {
        Self {
            impressions,
            users: (impressions / 20).max(500),
            items: (impressions / 50).max(1000),
            correlation: 0.8,
            selection: 1.0,
            seed,
        }
    }

    fn check(&self) -> Result<(), SamplesError> {
        let fail = |text: String| Err(SamplesError::config(text));
        if !(1000..=1_000_000_000).contains(&self.impressions) {
            return fail(format!(
                "impressions must be between 1000 and 1000000000, found {}",
                self.impressions
            ));
        }
        if !(50..=100_000_000).contains(&self.users) {
            return fail(format!("users must be between 50 and 100000000, found {}", self.users));
        }
        if !(100..=100_000_000).contains(&self.items) {
            return fail(format!("items must be between 100 and 100000000, found {}", self.items));
        }
        if !(-1.0..=1.0).contains(&self.correlation) {
            return fail(format!("correlation must be between -1 and 1, found {}", self.correlation));
        }
        if !(0.0..=10.0).contains(&self.selection) {
            return fail(format!("selection must be between 0 and 10, found {}", self.selection));
        }
        Ok(())
    }
}

/// AUC of the true probabilities: what the best model attains on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OracleAuc {
    /// Clicks, over all impressions.
    pub ctr: Option<f64>,
    /// Conversions, over clicked impressions.
    pub cvr: Option<f64>,
    /// Click and conversion, over all impressions.
    pub ctcvr: Option<f64>,
    /// What a click would have led to, over all impressions.
    pub cvr_all: Option<f64>,
}

/// What was made; also written as `synth.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SynthReport {
    /// The settings.
    pub config: SynthConfig,
    /// Distinct impressions.
    pub impressions: u64,
    /// Rows of `impressions.parquet`, those sent twice included.
    pub impression_rows: u64,
    /// Requests.
    pub requests: u64,
    /// Clicked impressions.
    pub clicks: u64,
    /// Clicked impressions that convert.
    pub conversions: u64,
    /// The attainable AUC of every task.
    pub oracle: OracleAuc,
}

/// The AUC of scores against labels, `None` where it is undefined.
pub type Auc<'a> = dyn Fn(&[f32], &[f32]) -> Option<f64> + 'a;

/// Writes `impressions.parquet`, `clicks.parquet`, `conversions.parquet`, `users.parquet`,
/// `items.parquet`, `truth.parquet` and `synth.json` into the folder `out`; the same settings give
/// the same bytes.
///
/// An existing folder is replaced only with `overwrite`, and only if it holds a `synth.json`.
///
/// # Errors
/// Settings out of range, an output folder in the way, files that cannot be written.
pub fn write(
    out: &Path,
    config: &SynthConfig,
    overwrite: bool,
    auc: &Auc<'_>,
    progress: &mut dyn Progress,
) -> Result<SynthReport, SamplesError> {
    config.check()?;
    let folder = StagedFolder::new(out, "synth.json", overwrite)?;
    progress.start("users and items", None);
    let world = world::World::new(config.users, config.items, config.seed);
    progress.start("impressions and events", Some(config.impressions as u64));
    let history = events::live(config, &world);
    progress.advance(config.impressions as u64);
    progress.start("writing logs", Some(6));
    let mut impression_rows = 0;
    let tables = [
        ("impressions.parquet", tables::impressions as tables::Table),
        ("clicks.parquet", tables::clicks),
        ("conversions.parquet", tables::conversions),
        ("users.parquet", tables::users),
        ("items.parquet", tables::items),
        ("truth.parquet", tables::truth),
    ];
    for (name, table) in tables {
        let mut frame = table(config, &world, &history).map_err(SamplesError::step("making a log"))?;
        if name == "impressions.parquet" {
            impression_rows = frame.height() as u64;
        }
        crate::files::write_parquet(&mut frame, &folder.path(name), &[])?;
        progress.advance(1);
    }
    let report = report(config, &history, impression_rows, auc);
    let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
    let path = folder.path("synth.json");
    fs::write(&path, text).map_err(SamplesError::io("write", &path))?;
    folder.commit()?;
    Ok(report)
}

fn report(
    config: &SynthConfig,
    history: &events::History,
    impression_rows: u64,
    auc: &Auc<'_>,
) -> SynthReport {
    let impressions = &history.impressions;
    let number = |flag: bool| f32::from(u8::from(flag));
    let click: Vec<f32> = impressions.clicked.iter().map(|&flag| number(flag)).collect();
    let would: Vec<f32> = impressions.would_convert.iter().map(|&flag| number(flag)).collect();
    let both: Vec<f32> = click.iter().zip(&would).map(|(a, b)| a * b).collect();
    let p_both: Vec<f32> =
        impressions.p_click.iter().zip(&impressions.p_conversion).map(|(a, b)| a * b).collect();
    let clicked = |values: &[f32]| -> Vec<f32> {
        values.iter().zip(&click).filter(|(_, click)| **click == 1.0).map(|(value, _)| *value).collect()
    };
    SynthReport {
        config: *config,
        impressions: click.len() as u64,
        impression_rows,
        requests: impressions.request.last().map_or(0, |last| u64::from(*last) + 1),
        clicks: click.iter().filter(|value| **value == 1.0).count() as u64,
        conversions: both.iter().filter(|value| **value == 1.0).count() as u64,
        oracle: OracleAuc {
            ctr: auc(&impressions.p_click, &click),
            cvr: auc(&clicked(&impressions.p_conversion), &clicked(&would)),
            ctcvr: auc(&p_both, &both),
            cvr_all: auc(&impressions.p_conversion, &would),
        },
    }
}
