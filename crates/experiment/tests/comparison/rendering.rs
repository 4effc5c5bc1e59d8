//! The text table and the page.

use std::sync::Arc;

use gatefold_experiment::comparison::{
    ComparisonInput, ModelScores, OutputScores, SampleSet, compare, render_html, render_text,
};

use crate::example::{OPTIONS, comparison};

#[test]
fn the_text_of_a_small_comparison() {
    // Every request ranks right for the first model; the second has one request right, one wrong.
    let model = |name: &str, scores: [f32; 4]| ModelScores {
        name: name.to_string(),
        version: 1,
        kind: "mmoe".to_string(),
        outputs: vec![OutputScores {
            output: "cvr".to_string(),
            space: "clicked impressions".to_string(),
            label: "conversion".to_string(),
            scores: scores.to_vec(),
            labels: Arc::from([0.0, 1.0, 0.0, 1.0]),
            requests: Arc::from([0, 0, 1, 1]),
        }],
    };
    let input = ComparisonInput {
        sample_set: SampleSet { name: "four rows".to_string(), description: String::new() },
        models: vec![model("a", [0.25, 0.75, 0.25, 0.75]), model("b", [0.75, 0.25, 0.25, 0.75])],
    };
    let text = render_text(&compare(&input, &OPTIONS).unwrap());
    assert_eq!(
        text,
        "\
Sample set: four rows

cvr on clicked impressions  (label conversion; 4 rows, 2 positives (50.0 %), 2 requests)
┌───────┬─────────────────────────┬───────────────────────────────────┬───────┬────────┬──────────┬────────┬───────┐
│ model ┆ AUC [95 %]              ┆ difference [95 %]                 ┆     p ┆   GAUC ┆ log loss ┆     NE ┆  PCOC │
╞═══════╪═════════════════════════╪═══════════════════════════════════╪═══════╪════════╪══════════╪════════╪═══════╡
│ a v1  ┆ 1.0000 [1.0000, 1.0000] ┆ baseline                          ┆     – ┆ 1.0000 ┆  0.28768 ┆ 0.4150 ┆ 1.000 │
│ b v1  ┆ 0.5000 [0.0000, 1.0000] ┆ −0.5000 [−1.0000, 0.0000] unclear ┆ 0.317 ┆ 0.5000 ┆  0.83699 ┆ 1.2075 ┆ 1.000 │
└───────┴─────────────────────────┴───────────────────────────────────┴───────┴────────┴──────────┴────────┴───────┘

Intervals: 95 % percentile bootstrap over requests, 200 resamples, seed 7.
Difference: AUC minus that of a v1, on the same rows and resamples; p: DeLong's test with requests as clusters.
NE: log loss over that of the base rate. PCOC: predicted over observed positives.
"
    );
}

#[test]
fn every_output_is_named_with_its_sample_space() {
    let comparison = comparison();
    let (text, page) = (render_text(&comparison), render_html(&comparison));
    for output in &comparison.outputs {
        assert!(text.contains(&output.title()), "{}", output.title());
        let heading = format!("<h2>{} <span class=\"space\">on {}</span></h2>", output.output, output.space);
        assert!(page.contains(&heading), "{heading}");
    }
    assert!(text.lines().all(|line| !line.contains('\u{1b}')), "no escape codes");
}

#[test]
fn the_page_needs_nothing_else() {
    let page = render_html(&comparison());
    for forbidden in ["http:", "https:", "<script", "<link", "<img", "src=", "url(", "@import", "NaN", "inf"]
    {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
}

/// Fails unless every element that is opened is closed in order.
#[track_caller]
fn assert_balanced(page: &str) {
    let mut open: Vec<&str> = vec![];
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
        } else if !tag.ends_with('/') && !tag.starts_with('!') && name != "meta" {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn elements_are_balanced_and_texts_are_escaped() {
    assert_balanced(&render_html(&comparison()));

    let hostile = "<b onclick=\"x\">&'";
    let mut comparison = comparison();
    comparison.sample_set.name = hostile.to_string();
    comparison.sample_set.description = hostile.to_string();
    for model in &mut comparison.models {
        model.name = hostile.to_string();
        model.kind = hostile.to_string();
    }
    for output in &mut comparison.outputs {
        output.output = hostile.to_string();
        output.space = hostile.to_string();
        output.label = hostile.to_string();
        output.note = Some(hostile.to_string());
    }
    let page = render_html(&comparison);
    assert_balanced(&page);
    assert!(!page.contains(hostile) && !page.contains("onclick=\""), "unescaped text");
    assert!(page.contains("&lt;b onclick=&quot;x&quot;&gt;&amp;&#39;"));
}
