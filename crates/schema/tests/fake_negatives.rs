//! Fake negatives as a person asks for them: what belongs together, and what is said where it does not.

use gatefold_schema::{FakeNegatives, Recipe};

/// A recipe of clicks and conversions; `labels`, `logs` and `cvr` are further lines of its sections.
fn parse(labels: &str, logs: &str, cvr: &str, more: &str) -> Result<Recipe, String> {
    let text = format!(
        r#"
name = "late"
[samples.logs]
impressions = "i.parquet"
clicks = "c.parquet"
conversions = "b.parquet"
labels = {{ {labels} }}
{logs}
[[feature]]
name = "hour"
side = "context"
kind = "numeric"
type = "int"
encoder = {{ kind = "none" }}
[[task]]
name = "ctr"
label = "click"
[[task]]
name = "cvr"
label = "conversion"
given = "ctr"
{cvr}
{more}
"#
    );
    Recipe::parse(&text, "late.toml").map_err(|error| error.to_string())
}

const LATE: &str = "maturity = \"fake-negatives\"";
const WEIGHTED: &str = "fake_negatives = \"weighted\"";
const CALIBRATED: &str = "fake_negatives = \"calibrated\"";

#[track_caller]
fn refused(found: Result<Recipe, String>, expected: &str) {
    let text = found.expect_err("must be refused");
    assert!(text.contains(expected), "{text}\ndoes not contain\n{expected}");
}

#[test]
fn a_task_of_the_last_outcome_says_how_it_learns() {
    let recipe = parse(LATE, "", WEIGHTED, "").unwrap();
    assert_eq!(recipe.tasks[1].fake_negatives, Some(FakeNegatives::Weighted));
    assert_eq!(recipe.samples.logs.as_ref().unwrap().late_label(), Some("conversion"));
    assert_eq!(Recipe::parse(&toml::to_string(&recipe).unwrap(), "again").unwrap(), recipe);
    let recipe = parse(LATE, "", CALIBRATED, "").unwrap();
    assert_eq!(recipe.tasks[1].fake_negatives, Some(FakeNegatives::Calibrated));
    let plain = parse("", "", "", "").unwrap();
    assert_eq!((plain.tasks[1].fake_negatives, plain.samples.logs.unwrap().late_label()), (None, None));

    refused(
        parse(LATE, "", "", ""),
        "task 'cvr': its label 'conversion' has fake negatives in the samples, which the loss would take for true ones; \
         add fake_negatives = \"weighted\" or \"calibrated\"",
    );
    refused(
        parse("", "", WEIGHTED, ""),
        "task 'cvr': fake_negatives = \"weighted\", but the samples have no fake negatives of its label 'conversion'; \
         build them with maturity = \"fake-negatives\"",
    );
    refused(
        parse(LATE, "", "fake_negatives = \"wait\"", ""),
        "unknown variant `wait`, expected `weighted` or `calibrated`",
    );
}

#[test]
fn clicks_come_late_where_there_are_no_conversions() {
    let recipe = |ctr: &str| {
        Recipe::parse(
            &format!(
                r#"
name = "clicks"
samples.logs = {{ impressions = "i.parquet", clicks = "c.parquet", labels = {{ {LATE} }} }}
feature = [{{ name = "hour", side = "context", kind = "numeric", type = "int", encoder = {{ kind = "none" }} }}]
task = [{{ name = "ctr", label = "click"{ctr} }}]
"#
            ),
            "clicks.toml",
        )
        .map_err(|error| error.to_string())
    };
    assert_eq!(
        recipe(", fake_negatives = \"calibrated\"").unwrap().samples.logs.unwrap().late_label(),
        Some("click")
    );
    refused(recipe(""), "task 'ctr': its label 'click' has fake negatives");
}

#[test]
fn what_makes_no_sense_with_fake_negatives() {
    let task = |text: &str| format!("[[task]]\n{text}");
    refused(
        parse(LATE, "", WEIGHTED, &task("name = \"again\"\nlabel = \"repeat\"\ngiven = \"cvr\"")),
        "task 'again': given = \"cvr\", which learns from fake negatives",
    );
    refused(
        parse(LATE, "", "fake_negatives = \"weighted\"\nloss = \"squared-error\"", ""),
        "task 'cvr': fake_negatives is of probabilities, but the loss is squared-error",
    );
    refused(
        parse(LATE, "", WEIGHTED, &task("name = \"bought\"\nlabel = \"conversion\"")),
        "task 'bought': its label 'conversion' has fake negatives",
    );
    let sampling = |text: &str| format!("[samples.logs.sampling]\n{text}");
    refused(
        parse(LATE, &sampling("negatives = 0.5"), WEIGHTED, ""),
        "[samples.logs.sampling]: correct = \"rate\" takes all negatives to be thinned out alike",
    );
    parse(LATE, &sampling("negatives = 0.5\ncorrect = \"weight\""), WEIGHTED, "").unwrap();
    parse(LATE, &sampling("per_user = 10"), WEIGHTED, "").unwrap();
}

#[test]
fn models_that_relate_probabilities_take_weights_alone() {
    for kind in ["esmm", "aitm"] {
        let model = format!("[model]\nkind = \"{kind}\"");
        parse(LATE, "", WEIGHTED, &model).unwrap();
        refused(
            parse(LATE, "", CALIBRATED, &model),
            &format!(
                "[model]: {kind} relates the probabilities that tasks learn, but with fake_negatives = \"calibrated\" \
                 task 'cvr' learns another"
            ),
        );
    }
    let calibrate = |method: &str| format!("[train]\ncalibrate = {{ cvr = \"{method}\" }}");
    refused(
        parse(LATE, "", CALIBRATED, &calibrate("platt")),
        "'cvr' is calibrated for its fake negatives already and has no logit: use isotonic",
    );
    parse(LATE, "", CALIBRATED, &calibrate("isotonic")).unwrap();
    parse(LATE, "", WEIGHTED, &calibrate("platt")).unwrap();
}

#[test]
fn samples_whose_fake_negatives_nobody_learns_from() {
    let text = format!(
        r#"
name = "clicks"
samples.logs = {{ impressions = "i", clicks = "c", conversions = "b", labels = {{ {LATE} }} }}
feature = [{{ name = "hour", side = "context", kind = "numeric", type = "int", encoder = {{ kind = "none" }} }}]
task = [{{ name = "ctr", label = "click" }}]
"#
    );
    let found = Recipe::parse(&text, "clicks.toml").map_err(|error| error.to_string());
    refused(found, "\"fake-negatives\" is of the label 'conversion', which no task has");
}
