//! A made-up comparison of three models whose qualities are known by construction.
//!
//! To look at the page: `GATEFOLD_EXAMPLE_PAGE=/tmp/page.html cargo test --release -p
//! gatefold-experiment`, which writes it there.

use std::sync::Arc;

use gatefold_experiment::comparison::{
    Comparison, ComparisonInput, ComparisonOptions, ModelScores, OutputScores, SampleSet, compare,
    render_html,
};
use gatefold_metrics::BootstrapOptions;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const OPTIONS: ComparisonOptions = ComparisonOptions {
    bootstrap: BootstrapOptions { replicates: 200, confidence: 0.95, seed: 7 },
    calibration_bins: 12,
};

const REQUESTS: u32 = 1500;
const CANDIDATES: u32 = 12;

/// One sample space: true rates, labels and requests of its rows.
struct Space {
    name: &'static str,
    label: &'static str,
    rates: Vec<f32>,
    labels: Arc<[f32]>,
    requests: Arc<[u32]>,
}

impl Space {
    fn new(name: &'static str, label: &'static str, rows: Vec<(f32, f32, u32)>) -> Self {
        Self {
            name,
            label,
            rates: rows.iter().map(|row| row.0).collect(),
            labels: rows.iter().map(|row| row.1).collect(),
            requests: rows.iter().map(|row| row.2).collect(),
        }
    }

    /// The scores of a model that knows the log odds with Gaussian noise, and is off by `bias`.
    fn scored(&self, output: &str, noise: f32, bias: f32, random: &mut ChaCha8Rng) -> OutputScores {
        let scores = self
            .rates
            .iter()
            .map(|&rate| sigmoid((rate / (1.0 - rate)).ln() + noise * normal(random) + bias));
        OutputScores {
            output: output.to_string(),
            space: self.name.to_string(),
            label: self.label.to_string(),
            scores: scores.collect(),
            labels: self.labels.clone(),
            requests: self.requests.clone(),
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A sum of uniform numbers, near enough to normal.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0
}

pub(crate) fn input() -> ComparisonInput {
    let random = &mut ChaCha8Rng::seed_from_u64(20);
    let (mut clicks, mut clicked, mut all, mut both) = (vec![], vec![], vec![], vec![]);
    for request in 0..REQUESTS {
        let user = normal(random);
        for _ in 0..CANDIDATES {
            let item = normal(random);
            let click_rate = sigmoid(-2.6 + 0.6 * user + 0.9 * item);
            let conversion_rate = sigmoid(-1.8 + 0.5 * user + 0.8 * normal(random));
            let click = (random.random::<f32>() < click_rate) as u8 as f32;
            let would_convert = (random.random::<f32>() < conversion_rate) as u8 as f32;
            clicks.push((click_rate, click, request));
            all.push((conversion_rate, would_convert, request));
            both.push((click_rate * conversion_rate, click * would_convert, request));
            if click == 1.0 {
                clicked.push((conversion_rate, would_convert, request));
            }
        }
    }
    let clicks = Space::new("all impressions", "click", clicks);
    let clicked = Space::new("clicked impressions", "conversion", clicked);
    let all = Space::new("all impressions", "conversion had it been clicked", all);
    let both = Space::new("all impressions", "click and conversion", both);

    let models = [
        ("shared-bottom", "shared_bottom", 3, 0.9, 0.25),
        ("esmm", "esmm", 1, 0.85, 0.0),
        ("mmoe", "mmoe", 12, 0.5, -0.05),
    ];
    let models = models.map(|(name, kind, version, noise, bias)| {
        let mut outputs =
            vec![clicks.scored("ctr", noise, bias, random), clicked.scored("cvr", noise, bias, random)];
        if kind != "shared_bottom" {
            outputs.push(all.scored("cvr", noise, bias, random));
        }
        outputs.push(both.scored("ctcvr", noise, bias, random));
        ModelScores { name: name.to_string(), version, kind: kind.to_string(), outputs }
    });
    ComparisonInput {
        sample_set: SampleSet {
            name: "Made-up logs, test split".to_string(),
            description: "1,500 requests of 12 candidates; click and conversion rates are known functions of user and item."
                .to_string(),
        },
        models: models.into(),
    }
}

pub(crate) fn comparison() -> Comparison {
    compare(&input(), &OPTIONS).unwrap()
}

#[test]
fn the_example_page_is_written_where_asked_and_is_the_same_each_time() {
    let page = render_html(&comparison());
    assert!(page == render_html(&comparison()));
    if let Some(path) = std::env::var_os("GATEFOLD_EXAMPLE_PAGE") {
        std::fs::write(path, &page).unwrap();
    }
}
