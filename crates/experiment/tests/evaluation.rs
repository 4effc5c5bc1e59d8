//! One model's figures as text and as a page.

use gatefold_experiment::evaluation::{
    ModelEvaluation, OutputReport, render_gates, render_html, render_text,
};
use gatefold_metrics::{FigureOptions, Figures, Judged};
use gatefold_schema::{CapturedExpert, ExpertWeight, GateFigures, GateReport, LayerFigures};

const OPTIONS: FigureOptions = FigureOptions { bins: 2, ndcg_at: 1 };

fn output(names: [&str; 3], scores: &[f32], labels: &[f32], groups: &[u32]) -> OutputReport {
    let rows = Judged { scores, labels, weights: None, groups: Some(groups) };
    let figures = Figures::of_probabilities(&rows, &OPTIONS).unwrap();
    OutputReport::new(names, figures, &rows, true, &OPTIONS).unwrap()
}

fn gates() -> GateReport {
    let expert = |expert: &str, weight| ExpertWeight { expert: expert.into(), weight };
    GateReport {
        rows: 1200,
        gates: vec![GateFigures {
            gate: "gate.ctr".into(),
            experts: vec![expert("expert.0", 0.9375), expert("expert.1", 0.0625)],
            entropy: 0.25,
            entropy_of_mean: 0.3373,
        }],
        captured: vec![CapturedExpert { expert: "expert.0".into(), gate: "gate.ctr".into(), share: 0.95 }],
        layers: vec![
            LayerFigures { layer: "expert.0.0".into(), units: 8, dead: 0 },
            LayerFigures { layer: "expert.1.0".into(), units: 8, dead: 6 },
        ],
        warnings: vec!["gate.ctr has collapsed <b>".into()],
    }
}

fn evaluation() -> ModelEvaluation {
    ModelEvaluation {
        model: "mmoe v3".into(),
        rows: "four rows".into(),
        group: "request".into(),
        options: OPTIONS,
        outputs: vec![
            output(
                ["cvr", "impressions with click = 1", "conversion"],
                &[0.25, 0.75, 0.25, 0.75],
                &[0.0, 1.0, 0.0, 1.0],
                &[0, 0, 1, 1],
            ),
            output(
                ["cvr", "all impressions (potential outcome)", "would_convert"],
                &[0.25, 0.75, 0.25, 0.75],
                &[0.0, 1.0, 0.0, 0.0],
                &[0, 0, 1, 1],
            ),
        ],
        calibrations: Vec::new(),
        gates: None,
    }
}

#[test]
fn the_text_names_every_figure_with_its_rows() {
    assert_eq!(
        render_text(&evaluation()),
        "\
mmoe v3 on four rows
┌───────────────────────────────────────────┬──────┬───────────┬────────┬────────┬────────┬──────────┬────────┬────────┬─────────┬───────────────────┐
│ output | rows it is measured on           ┆ rows ┆ positives ┆    AUC ┆   GAUC ┆ NDCG@1 ┆ log loss ┆     NE ┆   PCOC ┆     ECE ┆ ECE (equal width) │
╞═══════════════════════════════════════════╪══════╪═══════════╪════════╪════════╪════════╪══════════╪════════╪════════╪═════════╪═══════════════════╡
│ cvr | impressions with click = 1          ┆    4 ┆         2 ┆ 1.0000 ┆ 1.0000 ┆ 1.0000 ┆  0.28768 ┆ 0.4150 ┆ 1.0000 ┆ 0.25000 ┆           0.25000 │
│ cvr | all impressions (potential outcome) ┆    4 ┆         1 ┆ 0.8333 ┆ 1.0000 ┆ 1.0000 ┆  0.56234 ┆ 1.0000 ┆ 2.0000 ┆ 0.25000 ┆           0.25000 │
└───────────────────────────────────────────┴──────┴───────────┴────────┴────────┴────────┴──────────┴────────┴────────┴─────────┴───────────────────┘

GAUC and NDCG are taken within each request: GAUC as the mean AUC weighted by rows, over those with rows of both classes; NDCG of the first 1 by score, as the mean over those with a positive.
  cvr | impressions with click = 1: 2 of 2 count
  cvr | all impressions (potential outcome): 1 of 2 count
NE: log loss over that of the base rate. PCOC: predicted over observed positives. ECE: mean distance of predicted and observed rate over 2 bins of equal weight, and of equal width.
"
    );
}

#[test]
fn gates_are_shown_with_their_warnings() {
    let text = render_gates(&gates());
    for part in [
        "│ gate.ctr ┆ expert.0 ┆      93.8 % ┆       1.88 times │",
        "expert.0 is captured by gate.ctr, which gives it 95.0 % of all its weight",
        "Dead units (the same on every row): 6 of 16 (37.5 %)\n  expert.1.0: 6 of 8\n",
        "warning: gate.ctr has collapsed",
    ] {
        assert!(text.contains(part), "{text}\ndoes not contain\n{part}");
    }
    assert!(render_gates(&GateReport::default()).starts_with("The model has no gates.\n"));
}

#[test]
fn the_page_draws_every_output_and_stays_closed() {
    let page = render_html(&ModelEvaluation { gates: Some(gates()), ..evaluation() });
    for part in [
        "<title>Evaluation: mmoe v3</title>",
        "<h2>cvr <span class=\"space\">| impressions with click = 1</span></h2>",
        "default-src 'none'",
        "<title>mmoe v3: predicted 25.0 %, observed 0.0 %, 2 rows</title>",
        "2 positives</title></rect>",
        "<td class=\"n heat\" style=\"--share: 47%\">0.938</td>",
        "gate.ctr has collapsed &lt;b&gt;",
    ] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert_eq!(page.matches("class=\"plot calibration\"").count(), 2);
    assert_eq!(page.matches("class=\"plot histogram\"").count(), 2);
    assert!(
        !page.contains("<script") && !page.contains("http:") && !page.contains("https:"),
        "nothing is loaded"
    );
}

#[test]
fn the_histogram_holds_every_row_once() {
    let scores: Vec<f32> = (0..1000).map(|row| (row as f32 / 1000.0).powi(3)).collect();
    let labels: Vec<f32> = (0..1000).map(|row| f32::from(u8::from(row % 7 == 0))).collect();
    let report = output(["ctr", "all impressions", "click"], &scores, &labels, &vec![0; 1000]);
    let rows = |count: fn(&gatefold_experiment::evaluation::HistogramBin) -> usize| {
        report.histogram.iter().map(count).sum::<usize>()
    };
    assert_eq!((rows(|bin| bin.positives), rows(|bin| bin.negatives)), (143, 857));
    for pair in report.histogram.windows(2) {
        assert!(pair[0].high == pair[1].low && pair[0].low < pair[0].high, "{pair:?}");
    }
    for bin in &report.histogram {
        let inside = scores.iter().filter(|&&score| (bin.low..bin.high).contains(&f64::from(score))).count();
        assert!(inside.abs_diff(bin.positives + bin.negatives) <= 1, "{bin:?}: {inside}");
    }
}
