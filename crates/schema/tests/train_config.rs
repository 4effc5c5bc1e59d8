//! `[train]` as a person writes it: what is understood, and what is said about the rest.

use gatefold_schema::{BalanceConfig, OptimizerConfig, Recipe, ScheduleConfig, SelectMetric};

fn parse(train: &str) -> Result<Recipe, String> {
    Recipe::parse(&format!("{RECIPE}{train}"), "r.toml").map_err(|error| error.to_string())
}

#[track_caller]
fn refused(train: &str, expected: &str) {
    let text = parse(train).expect_err("must be refused");
    assert!(text.contains(expected), "{text}\ndoes not contain\n{expected}");
}

#[test]
fn every_setting_has_a_default_and_a_word() {
    let plain = parse("").unwrap().train;
    assert_eq!(plain.optimizer, OptimizerConfig::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 });
    assert_eq!(plain.balance, BalanceConfig::Fixed {});
    assert_eq!(plain.schedule, ScheduleConfig::Constant { warmup_steps: 0 });

    for kind in ["sgd", "adam", "adamw", "adagrad", "rowwise-adagrad", "ftrl"] {
        parse(&format!("optimizer = {{ kind = \"{kind}\" }}")).unwrap();
    }
    for kind in ["fixed", "uncertainty", "dwa", "gradnorm", "pcgrad"] {
        parse(&format!("balance = {{ kind = \"{kind}\" }}")).unwrap();
    }
    for kind in ["constant", "linear", "cosine"] {
        parse(&format!("schedule = {{ kind = \"{kind}\", warmup_steps = 5 }}")).unwrap();
    }
    let full = parse(
        "optimizer = { kind = \"sgd\", momentum = 0.9 }\n\
         embedding_optimizer = { kind = \"rowwise-adagrad\" }\n\
         schedule = { kind = \"step\", every = 10 }\n\
         alternate = { joint = 1, ctr = 2, cvr = 0 }\n\
         select = { metric = \"log-loss\", weights = { cvr = 2.0, ctcvr = 1 } }\n\
         outside_space = \"drop\"\n",
    )
    .unwrap()
    .train;
    assert_eq!(full.select.unwrap().metric, SelectMetric::LogLoss);
    assert_eq!(full.alternate["ctr"], 2);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_rule() {
    refused("optimizer = { kind = \"adan\" }", "unknown variant `adan`");
    refused("optimizer = { kind = \"adam\", beta1 = 1.0 }", "beta1 must be at least 0 and below 1, found 1");
    refused("optimizer = { kind = \"adam\", momentum = 0.9 }", "unknown field `momentum`");
    refused("embedding_optimizer = { kind = \"adagrad\", epsilon = 0 }", "epsilon must be above 0, found 0");
    refused("balance = { kind = \"fixed\", alpha = 1 }", "unknown field `alpha`");
    refused("balance = { kind = \"dwa\", temperature = 0 }", "temperature must be finite and above 0");
    refused("schedule = { kind = \"linear\", end = 2 }", "end must be between 0 and 1, found 2");
    refused("schedule = { kind = \"step\", every = 0 }", "every must be at least 1");
    refused("clip_norm = 0", "clip_norm must be finite and above 0");
    refused("l2 = -1", "l2 and embedding_l2 must be finite and at least 0");
    refused("alternate = { crt = 1 }", "'crt' is neither 'joint' nor a task (those are: ctr, cvr)");
    refused("alternate = { ctr = 0 }", "at least one kind of batch must have a number above 0");
    refused("select = { weights = { ctvr = 1 } }", "'ctvr' is no output (those are: ctr, cvr, ctcvr)");
    refused("select = { weights = { ctr = -1 } }", "the weight of ctr must be finite and at least 0");
    refused("select = { weights = { ctr = 0 } }", "at least one weight must be above 0");
    refused("select = { metric = \"acu\" }", "unknown variant `acu`");
}

const RECIPE: &str = r#"
name = "r"

[samples]
adult = { train = "none", test = "none" }

[[feature]]
name = "age"
side = "user"
kind = "numeric"
type = "float"
encoder = { kind = "none" }

[[task]]
name = "ctr"
label = "click"

[[task]]
name = "cvr"
label = "conversion"
given = "ctr"

[[derived]]
name = "ctcvr"
product = ["ctr", "cvr"]
label = "conversion"

[model]
kind = "mmoe"

[train]
"#;
