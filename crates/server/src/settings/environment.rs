//! Settings from environment variables, between the file and the flags.
//!
//! One rule for every key: `GATEFOLD_`, then the key in capitals, with two underscores after a
//! table's name: `listen` is `GATEFOLD_LISTEN`, `limits.candidates` is `GATEFOLD_LIMITS__CANDIDATES`.
//! A text is taken as it is; anything else is written as in the file (`2.5`, `["gzip"]`).

use std::ffi::OsString;

use gatefold_schema::{ConfigError, strict};
use serde_json::Value;

use super::Settings;
use super::schema::Described;

const PREFIX: &str = "GATEFOLD_";

/// Variables that belong to other parts of the project.
const OTHERS: &[&str] = &["GATEFOLD_CACHE", "GATEFOLD_EXAMPLE_PAGE", "GATEFOLD_TEST_BUILD"];

/// Puts what `variables` say over `settings`.
///
/// # Errors
/// A variable that names no setting, with the nearest one, and a value that is none of the setting's.
pub fn over(
    settings: &Settings,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Settings, ConfigError> {
    let mut table = toml::Table::try_from(settings).map_err(|error| ConfigError::new(error.to_string()))?;
    // A name that is not text is none of ours.
    let ours = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours: Vec<(String, OsString)> = ours.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let services = services(&ours);
    for (name, value) in &ours {
        let name = name.as_str();
        if OTHERS.contains(&name) || services.iter().any(|service| is_of(service, name)) {
            continue;
        }
        let Some((key, schema)) = keys().find(|(key, _)| variable(key) == name) else {
            return Err(unknown(name));
        };
        let wrong = |problem: &str| ConfigError::new(format!("{name} (setting {key}): {problem}"));
        let text = value.to_str().ok_or_else(|| wrong("the value is not UTF-8 text"))?;
        let value = read(text, &schema).map_err(|problem| wrong(&problem))?;
        // Alone, so that an error is this variable's.
        let mut alone = toml::Table::new();
        insert(&mut alone, &key, value.clone());
        alone.try_into::<Settings>().map_err(|error| wrong(&format!("'{text}': {}", error.message())))?;
        insert(&mut table, &key, value);
    }
    table.try_into().map_err(|error: toml::de::Error| ConfigError::new(error.message().to_owned()))
}

/// Every key, tables before a dot, with the schema of its values.
pub(super) fn keys() -> impl Iterator<Item = (String, Value)> {
    let mut found = Vec::new();
    collect(&Settings::schema(), "", &mut found);
    found.into_iter()
}

fn collect(schema: &Value, prefix: &str, found: &mut Vec<(String, Value)>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let key = format!("{prefix}{name}");
        match schema.get("properties") {
            Some(_) => collect(schema, &format!("{key}."), found),
            None => found.push((key, schema.clone())),
        }
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn read(text: &str, schema: &Value) -> Result<toml::Value, String> {
    if schema["type"] == "string" {
        return Ok(text.into());
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let value: toml::Value =
        text.parse().map_err(|_| format!("'{text}' is no {kind}; write it as in the settings file"))?;
    match value {
        // The file's own leniency: 2 where 2.0 is meant.
        toml::Value::Integer(whole) if kind == "number" => Ok(toml::Value::Float(whole as f64)),
        value => Ok(value),
    }
}

fn insert(table: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Table::new().into());
            if let toml::Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn unknown(name: &str) -> ConfigError {
    let known: Vec<String> = keys().map(|(key, _)| variable(&key)).collect();
    let remedy = match strict::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "gatefold-server --example lists the settings".to_owned(),
    };
    ConfigError::new(format!("{name} in the environment names no setting; {remedy}"))
}

/// Services whose variables Kubernetes (for each service of the namespace) and container links set:
/// what stands before `_PORT` in a name whose value is an address such as `tcp://10.0.0.7:8500`, which
/// is no setting's.
fn services(variables: &[(String, OsString)]) -> Vec<&str> {
    let address = |value: &OsString| {
        let protocol = value.to_str().and_then(|value| value.split_once("://"));
        protocol.is_some_and(|(protocol, _)| ["tcp", "udp", "sctp"].contains(&protocol))
    };
    let ports = variables.iter().filter(|(_, value)| address(value));
    ports.filter_map(|(name, _)| name.strip_suffix("_PORT")).collect()
}

/// Whether a variable is one of those that go with a service: its host and ports.
fn is_of(service: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(service) else { return false };
    let numbered = |rest: &str| {
        let (port, rest) = rest.split_once('_').unwrap_or((rest, ""));
        let protocol = rest.split('_').next().unwrap_or_default();
        port.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    ["_PORT", "_SERVICE_HOST", "_SERVICE_PORT"].contains(&rest)
        || rest.starts_with("_SERVICE_PORT_")
        || rest.strip_prefix("_PORT_").is_some_and(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layered(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let settings = Settings { row_budget: 77, workers: 3, ..Settings::default() };
        over(&settings, variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn variables_stand_over_what_was_there_by_one_rule() {
        let settings = layered(&[
            ("GATEFOLD_LISTEN", "0.0.0.0:9000"),
            ("GATEFOLD_MODELS", "123"),
            ("GATEFOLD_POLL_SECONDS", "5"),
            ("GATEFOLD_ROW_BUDGET", "99"),
            ("GATEFOLD_LIMITS__CANDIDATES", "500"),
            ("GATEFOLD_VERSIONS", "{ mmoe = { latest = 2 } }"),
            ("GATEFOLD_ORT_LIBRARY", "/opt/libonnxruntime.so"),
            ("GATEFOLD_LOG", "json"),
            ("GATEFOLD_TLS__KEY", "/etc/key.pem"),
            ("GATEFOLD_COMPRESSION__REPLY", "[\"zstd\"]"),
            ("GATEFOLD_ADMIN_TOKEN", "true"),
            ("HOME", "/root"),
        ])
        .unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:9000");
        assert_eq!(settings.models.to_str(), Some("123"), "a text is taken as it is");
        assert_eq!((settings.row_budget, settings.workers), (99, 3));
        assert_eq!(settings.poll_seconds, 5.0);
        assert_eq!(settings.limits.candidates, 500);
        assert_eq!(settings.limits.columns, Settings::default().limits.columns);
        assert_eq!(settings.versions.len(), 1);
        assert_eq!(settings.tls.key, Some("/etc/key.pem".into()));
        assert_eq!(settings.compression.reply, [crate::settings::Encoding::Zstd]);
        assert!(settings.admin_token);
        assert_eq!(settings.ort_library, Some("/opt/libonnxruntime.so".into()));
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let names: std::collections::BTreeSet<String> = keys().map(|(key, _)| variable(&key)).collect();
        assert_eq!(names.len(), keys().count());
        assert!(OTHERS.iter().all(|name| !names.contains(*name)), "{names:?}");
    }

    #[test]
    fn what_is_no_setting_or_no_value_is_refused() {
        #[track_caller]
        fn refuse(name: &str, value: &str, expected: &str) {
            let message = layered(&[(name, value)]).expect_err("it is taken").to_string();
            assert!(message.contains(expected), "{message}");
        }
        refuse("GATEFOLD_ROW_BUGET", "3", "GATEFOLD_ROW_BUGET in the environment names no setting");
        refuse("GATEFOLD_ROW_BUGET", "3", "did you mean GATEFOLD_ROW_BUDGET?");
        refuse("GATEFOLD_LIMITS_CANDIDATES", "3", "did you mean GATEFOLD_LIMITS__CANDIDATES?");
        // No service is there that would have such a port or host.
        refuse("GATEFOLD_ADMIN_PORT", "8501", "GATEFOLD_ADMIN_PORT in the environment names no setting");
        refuse("GATEFOLD_PORT", "8500", "GATEFOLD_PORT in the environment names no setting");
        refuse("GATEFOLD_SERVICE_HOST", "10.0.0.7", "names no setting");
        refuse("GATEFOLD_LIMITS__ROWS_PORT_80_TCP", "3", "names no setting");
        refuse("GATEFOLD_WORKERS", "many", "GATEFOLD_WORKERS (setting workers): 'many' is no integer");
        refuse("GATEFOLD_WORKERS", "-1", "GATEFOLD_WORKERS (setting workers): '-1': invalid value");
        refuse("GATEFOLD_LIMITS__COLUMNS", "1.5", "(setting limits.columns): '1.5': invalid type");
        refuse("GATEFOLD_LISTEN", "here", "(setting listen): 'here': invalid socket address");
        refuse("GATEFOLD_LOG", "xml", "(setting log): 'xml': unknown variant `xml`");
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let variables = [
            ("GATEFOLD_CACHE", "/root/.cache"),
            ("GATEFOLD_SERVICE_HOST", "10.0.0.7"),
            ("GATEFOLD_SERVICE_PORT", "8500"),
            ("GATEFOLD_SERVICE_PORT_GRPC", "8500"),
            ("GATEFOLD_PORT", "tcp://10.0.0.7:8500"),
            ("GATEFOLD_PORT_8500_TCP", "tcp://10.0.0.7:8500"),
            ("GATEFOLD_PORT_8500_TCP_ADDR", "10.0.0.7"),
            ("GATEFOLD_SERVER_PORT", "udp://10.0.0.8:53"),
            ("GATEFOLD_SERVER_PORT_53_UDP_PROTO", "udp"),
        ];
        assert_eq!(layered(&variables).unwrap(), layered(&[]).unwrap());
        // Only theirs.
        let error = layered(&[variables[4], ("GATEFOLD_LISTEN_PORT", "8500")]).unwrap_err().to_string();
        assert!(error.contains("GATEFOLD_LISTEN_PORT in the environment names no setting"), "{error}");
    }
}
