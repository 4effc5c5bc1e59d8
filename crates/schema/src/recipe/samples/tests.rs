use super::*;
use crate::strict::from_toml;

const LOGS: &str = r#"
[logs]
impressions = "impressions/*.parquet"
clicks = { files = ["a.csv", "b.csv"], time = "ts", time_unit = "s", where = "user_id > 0" }
conversions = "conversions.parquet"
items = { files = "items.parquet", static = true }
"#;

fn parsed(more: &str) -> Result<SamplesConfig, ConfigError> {
    let config: SamplesConfig = from_toml(&format!("{LOGS}{more}"), "samples.toml")?;
    config.check().map(|()| config)
}

#[test]
fn a_name_in_the_place_of_a_table_takes_the_defaults() {
    let config = parsed("").unwrap();
    let SampleSource::Logs(logs) = config.source().unwrap() else { panic!("no logs") };
    assert_eq!(logs.impressions, Log::from(Files::One("impressions/*.parquet".into())));
    assert_eq!(logs.impressions.request, "request_id");
    assert_eq!(logs.clicks.files.names(), ["a.csv", "b.csv"]);
    assert_eq!((logs.clicks.time.as_str(), logs.clicks.time_unit), ("ts", TimeUnit::S));
    assert_eq!(logs.clicks.condition.as_deref(), Some("user_id > 0"));
    assert!(logs.users.is_none() && logs.items.as_ref().unwrap().is_static);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(from_toml::<SamplesConfig>(&text, "again").unwrap(), config);
}

#[test]
fn aggregates_and_sequences_name_their_columns() {
    let config = parsed(
        r#"
[[logs.aggregate]]
name = "item_clicks"
of = "clicks"
by = ["item"]
windows = ["1h", "24h", "7d"]
[[logs.sequence]]
name = "clicked"
of = "clicks"
last = 20
"#,
    );
    let logs = config.unwrap().logs.unwrap();
    let aggregate = &logs.aggregates[0];
    let names: Vec<String> = aggregate.windows.iter().map(|window| aggregate.column_name(*window)).collect();
    assert_eq!(names, ["item_clicks_1h", "item_clicks_1d", "item_clicks_7d"]);
    assert_eq!((logs.sequences[0].column.as_str(), aggregate.what), ("item", Statistic::Count));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let aggregate = |text: &str| format!("[[logs.aggregate]]\nname = \"a\"\n{text}");
    let label = |text: &str| format!("[[logs.label]]\n{text}\ncolumn = \"dwell\"");
    let all = r#"of = "clicks"
by = ["item"]
windows = ["1h"]
"#;
    for (more, message) in [
        ("clickz = 3".to_owned(), "unknown field `clickz`"),
        (
            "labels = { click_window = \"1 fortnight\" }".into(),
            "samples.toml:7: '1 fortnight' is no length of time",
        ),
        ("users = 3".into(), "a file name, a list of file names, or a table with `files`"),
        (
            "on_bad_row = \"ignore\"".into(),
            "unknown variant `ignore`, expected one of `drop`, `fail`, `quarantine`",
        ),
        ("users = { fils = \"a\" }".into(), "unknown field `fils`"),
        ("audit_columns = [\"p\"]".into(), "there is no audit file"),
        (aggregate("of = \"clicks\"\nby = []\nwindows = [\"1h\"]"), "by is empty"),
        (
            aggregate("of = \"clicks\"\nby = [\"item\", \"item\"]\nwindows = [\"1h\"]"),
            "by names 'item' twice",
        ),
        (aggregate("of = \"clicks\"\nby = [\"item\"]\nwindows = []"), "windows is empty"),
        (
            aggregate("of = \"clicks\"\nby = [\"item\"]\nwindows = [\"7d\", \"1h\"]"),
            "ascend, found 7d before 1h",
        ),
        (aggregate(&format!("{all}what = \"sum\"")), "column is missing"),
        (aggregate(&format!("{all}column = \"price\"")), "not read by a count"),
        (aggregate(&format!("{all}what = \"rate\"")), "a rate needs weight"),
        (
            aggregate(&format!("{all}what = \"rate\"\nweight = 0\nprior = 0.1")),
            "weight must be above 0, found 0",
        ),
        (aggregate(&format!("{all}weight = 1")), "read by a rate alone"),
        (format!("{0}{0}", aggregate(all)), "another column is called 'a_1h' already"),
        ("[[logs.sequence]]\nname = \"s\"\nof = \"clicks\"\nlast = 0".into(), "from 1 to 10000, found 0"),
        ("[split]\nvalid = 0.9\ntest = 0.2".into(), "valid + test must be at least 0 and below 1"),
        ("[split]\nvalid_from = \"2024-03-13\"".into(), "give both valid_from and test_from"),
        ("[split]\nvalid_from = \"2024-03-13\"\ntest_from = \"2024-03-12\"".into(), "comes before the test"),
        ("[split]\nby = \"users\"".into(), "unknown variant `users`"),
        ("[split]\nby = \"both\"".into(), "by = \"both\" needs users"),
        ("[split]\nby = \"both\"\nusers = 1".into(), "users must be above 0 and below 1, found 1"),
        ("[split]\nusers = 0.1".into(), "read with by = \"both\" alone"),
        ("[split]\nby = \"user\"\ngap = \"1d\"".into(), "by = \"user\" reads no times"),
        ("[logs.sampling]\nnegative = 0.1".into(), "unknown field `negative`"),
        ("[logs.sampling]\nnegatives = 0".into(), "above 0 and at most 1, found 0"),
        ("[logs.sampling]\ncorrect = \"both\"".into(), "unknown variant `both`, expected `rate` or `weight`"),
        ("[logs.sampling]\nper_user = 0".into(), "per_user must be at least 1"),
        ("labels = { maturity = { weight = 1.0 } }".into(), "use \"keep\" for 1"),
        (label("name = \"click\"\nof = \"clicks\""), "another label or audit column of this name"),
        (label("name = \"a\"\nof = \"impressions\""), "nothing that came of one"),
        (label("name = \"a\"\nof = \"clicks\"\nat_least = nan"), "at_least must be a finite number"),
        ("[adult]\ntrain = \"a\"\ntest = \"b\"".into(), "more than one source"),
    ] {
        let error = parsed(&more).unwrap_err().to_string();
        assert!(error.contains(message), "{more}: {error}");
    }
    let leak = from_toml::<SamplesConfig>(&format!("leak_auc = 0.5\n{LOGS}"), "samples.toml").unwrap();
    let error = leak.check().unwrap_err().to_string();
    assert!(error.contains("leak_auc must be above 0.5"), "{error}");
    let error = from_toml::<SamplesConfig>("examples = 3", "samples.toml").unwrap().check().unwrap_err();
    assert!(error.to_string().contains("no source is given"), "{error}");
}

#[test]
fn sampling_and_labels_are_read() {
    let config = parsed(
        r#"
labels = { view_window = "1d", maturity = { weight = 0.25 } }
session_gap = "30m"
[logs.sampling]
negatives = 0.1
correct = "weight"
whole_requests = true
per_user = 500
[[logs.label]]
name = "long_click"
of = "clicks"
column = "dwell"
at_least = 30
[split]
by = "both"
users = 0.2
"#,
    )
    .unwrap();
    let logs = config.logs.as_ref().unwrap();
    assert_eq!(logs.labels.maturity, Maturity::Weight(0.25));
    let expected = SamplingConfig {
        negatives: 0.1,
        correct: Correction::Weight,
        whole_requests: true,
        per_user: Some(500),
        seed: 0,
    };
    assert_eq!(logs.sampling, Some(expected));
    assert_eq!(logs.value_labels[0].at_least, Some(30.0));
    assert_eq!((config.split.by, config.split.users), (SplitBy::Both, Some(0.2)));
    let text = toml::to_string(&config).unwrap();
    assert_eq!(from_toml::<SamplesConfig>(&text, "again").unwrap(), config);
    assert!(parsed("labels = { maturity = \"hold-back\" }").is_ok());
}
