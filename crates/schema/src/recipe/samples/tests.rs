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
    assert_eq!((logs.clicks.time.as_str(), logs.clicks.time_unit.micros()), ("ts", 1_000_000));
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
        ("[adult]\ntrain = \"a\"\ntest = \"b\"".into(), "more than one source"),
    ] {
        let error = parsed(&more).unwrap_err().to_string();
        assert!(error.contains(message), "{more}: {error}");
    }
    let error = from_toml::<SamplesConfig>("examples = 3", "samples.toml").unwrap().check().unwrap_err();
    assert!(error.to_string().contains("no source is given"), "{error}");
}
