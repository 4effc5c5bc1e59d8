//! What `[model]` and `[[task]]` refuse, and in which words.

use gatefold_schema::{Derived, ModelConfig, ModelKind, Task, strict::from_toml, task::check_tasks};

const CLICK_TASKS: &str = r#"
[[task]]
name = "ctr"
label = "click"
[[task]]
name = "cvr"
label = "conversion"
given = "ctr"
"#;

#[derive(serde::Deserialize)]
struct Tasks {
    task: Vec<Task>,
}

fn tasks(text: &str) -> Vec<Task> {
    from_toml::<Tasks>(text, "tasks").unwrap().task
}

#[track_caller]
fn check(kind: &str, settings: &str, tasks_text: &str, expected: &str) {
    let text = format!("kind = \"{kind}\"\n{settings}");
    let model = from_toml::<ModelConfig>(&text, "recipe.toml");
    let found = model.and_then(|model| model.check(&tasks(tasks_text)));
    let found = found.err().map(|error| error.to_string()).unwrap_or_default();
    if expected.is_empty() {
        assert_eq!(found, "");
    } else {
        assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
    }
}

#[test]
fn every_kind_takes_its_defaults() {
    for kind in ModelKind::ALL {
        check(kind.name(), "", CLICK_TASKS, "");
        let parsed: ModelConfig = from_toml(&format!("kind = \"{}\"", kind.name()), "recipe.toml").unwrap();
        assert_eq!(parsed, ModelConfig::new(kind));
    }
}

#[test]
fn settings_out_of_range_are_refused_where_they_are_read() {
    let of = |kind: &str, settings: &str, expected: &str| check(kind, settings, CLICK_TASKS, expected);
    of("cgc", "task_experts = 0", "[model]: cgc needs task_experts between 1 and 256, found 0");
    of("mmoe", "task_experts = 0", "");
    of("ple", "levels = 0", "ple needs levels between 1 and 16, found 0");
    of("cgc", "levels = 0", "");
    of("omoe", "experts = 0", "omoe needs experts between 1 and 256, found 0");
    of("shared-bottom", "experts = 0", "");
    of("mmoe", "expert = []", "mmoe needs a width in expert, such as expert = [256, 128]");
    of("cross-stitch", "bottom = []", "cross-stitch needs a width in bottom, such as bottom = [256, 128]");
    of("esmm", "bottom = []", "");
    of("aitm", "bottom = []\ntower = []", "aitm needs a width in bottom or tower");
    of("mmoe", "tower = [8, 0]", "tower holds the width 0; widths are between 1 and 65536");
    of("aitm", "calibrator = -1.0", "calibrator must be a number of at least 0, found -1");
    of("aitm", "calibrator = nan", "calibrator must be a number of at least 0, found NaN");
    of("l2-sharing", "sharing = inf", "sharing must be a number of at least 0, found inf");
    of("mmoe", "dropout = 1.0", "dropout must be at least 0 and below 1, found 1");
    of("mmoe", "dropout = -0.1", "dropout must be at least 0 and below 1, found -0.1");
    of("mmoe", "dropout = nan", "found NaN");
    of("mmoe", "normalization = \"batchh\"", "did you mean `batch`?");
    of("mmoe", "expertts = 4", "did you mean `experts`?");
    of("mmoe", "activation = \"rely\"", "did you mean `relu`?");
    of("mmoee", "", "did you mean `mmoe`?");
}

#[test]
fn tasks_that_a_kind_cannot_learn_are_refused() {
    let one = "[[task]]\nname = \"ctr\"\nlabel = \"click\"\n";
    let two = format!("{one}[[task]]\nname = \"like\"\nlabel = \"like\"\n");
    check("esmm", "", one, "esmm needs exactly two tasks, the second conditional on the first");
    check("esmm", "", &two, "such as ctr and cvr with given = \"ctr\"; found ctr, like");
    check("aitm", "", one, "aitm passes information from task to task and needs at least two");
    check("aitm", "", &two, "");
    let forked = format!("{CLICK_TASKS}[[task]]\nname = \"like\"\nlabel = \"like\"\ngiven = \"ctr\"\n");
    let order = "aitm needs the tasks in the order of the outcomes: 'cvr' comes before like given ctr";
    check("aitm", "", &forked, order);
    let number = CLICK_TASKS.replace("given", "loss = \"squared-error\"\ngiven");
    for kind in ["esmm", "aitm"] {
        check(kind, "", &number, "relates probabilities, but task 'cvr' has the loss squared-error");
    }
    check("mmoe", "", &number, "");
    let shared = one.replace("ctr", "shared");
    check("ple", "", &shared, "ple calls its common experts 'shared'; give that task another name");
    check("mmoe", "", &shared, "");
}

#[test]
fn a_number_is_no_condition_and_no_factor() {
    let number =
        |text: &str| text.replace("label = \"click\"", "label = \"click\"\nloss = \"squared-error\"");
    let error = check_tasks(&tasks(&number(CLICK_TASKS)), &[]).unwrap_err().to_string();
    assert!(error.contains("given = \"ctr\", whose label is any number"), "{error}");

    let tasks = tasks(&number(&CLICK_TASKS.replace("given = \"ctr\"", "")));
    let product = vec!["ctr".into(), "cvr".into()];
    let derived = [Derived { name: "ctcvr".into(), product, label: "conversion".into() }];
    let error = check_tasks(&tasks, &derived).unwrap_err().to_string();
    assert!(error.contains("'ctr' has the loss squared-error and predicts no probability"), "{error}");
}
