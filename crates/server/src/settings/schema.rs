//! What the settings are, as data: names, types, defaults and texts, taken from the settings
//! themselves. The JSON schema for editors, the example file and the names of environment variables
//! all come from here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use gatefold_backend_ort::Device;
use gatefold_engine::VersionPolicy;
use serde_json::{Map, Value, json};

/// A type that a setting may have.
pub(crate) trait Described {
    /// Whether a key of this type may be left out of a table that has no defaults.
    const OPTIONAL: bool = false;

    /// The JSON schema of its values.
    fn schema() -> Value;
}

/// Declares a table of settings: a struct with its texts, its defaults, and its [`Described`]. Where
/// there are no defaults, every key is needed that is no `Option`.
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $text:literal])*
                $(#[serde($serde:meta)])?
                pub $field:ident: $kind:ty,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $text])*
                $(#[serde($serde)])?
                pub $field: $kind,
            )*
        }

        impl $crate::settings::schema::Described for $name {
            fn schema() -> serde_json::Value {
                use $crate::settings::schema::{Described, table};
                let keys = [$((stringify!($field), &[$($text),*][..], <$kind as Described>::schema())),*];
                let mut schema = table(&[$($about),*], &serde_json::Value::Null, keys);
                let optional = [$((stringify!($field), <$kind as Described>::OPTIONAL)),*];
                let needed = optional.iter().filter(|(_, optional)| !optional).map(|(name, _)| *name);
                schema["required"] = needed.collect();
                schema
            }
        }
    };
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $text:literal])*
                $(#[serde($serde:meta)])?
                pub $field:ident: $kind:ty = $default:expr,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[doc = $text])*
                $(#[serde($serde)])?
                pub $field: $kind,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::schema::Described for $name {
            fn schema() -> serde_json::Value {
                $crate::settings::schema::table(
                    &[$($about),*],
                    &serde_json::json!(Self::default()),
                    [$((
                        stringify!($field),
                        &[$($text),*][..],
                        <$kind as $crate::settings::schema::Described>::schema(),
                    )),*],
                )
            }
        }
    };
}
pub(crate) use settings;

/// The schema of a table with these keys: name, text, and schema of the values.
pub(crate) fn table<const N: usize>(
    about: &[&str],
    defaults: &Value,
    keys: [(&str, &[&str], Value); N],
) -> Value {
    let keys = keys.into_iter().map(|(name, text, mut schema)| {
        schema["description"] = paragraph(text).into();
        if let Some(default) = defaults.get(name)
            && schema.get("properties").is_none()
        {
            schema["default"] = default.clone();
        }
        (name.to_owned(), schema)
    });
    json!({
        "type": "object",
        "description": paragraph(about),
        "properties": keys.collect::<Map<_, _>>(),
        "additionalProperties": false,
    })
}

/// The lines of a documentation comment as one text.
fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The JSON schema of a settings file, for editors.
pub fn json_schema() -> String {
    let mut schema = super::Settings::schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Settings of gatefold-server".into();
    format!("{schema:#}\n")
}

/// A settings file that explains every key and sets it to its default; keys that have none are
/// commented out.
pub fn example() -> String {
    let mut text = String::from(
        "#:schema ./server.schema.json\n\
         # Settings of gatefold-server, each at its default. An environment variable stands over this\n\
         # file: GATEFOLD_ and the key in capitals, with two underscores after a table's name\n\
         # (GATEFOLD_ROW_BUDGET, GATEFOLD_LIMITS__CANDIDATES). Flags stand over both.\n",
    );
    keys(&super::Settings::schema(), "", &mut text);
    text.push_str(EXPERIMENT);
    text
}

/// The end of the example file.
const EXPERIMENT: &str = r#"
# An experiment, to be used without the marks of comments:
#
# [experiments.gates]
# model = "mmoe"             # of arms that name none, and of units in no arm
# salt = "gates-2026-11"     # another one divides the units anew
#
# [[experiments.gates.arms]]
# name = "control"
# share = 0.5
# version = 3                # stays loaded while newer ones come
#
# [[experiments.gates.arms]]
# name = "treatment"
# share = 0.25               # the last arm may grow while the experiment runs
# label = "canary"           # set by `gatefold models label mmoe canary 4`
"#;

/// Appends the keys of a table, then its own tables.
fn keys(schema: &Value, name: &str, text: &mut String) {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let (tables, values): (Vec<_>, Vec<_>) =
        properties.partition(|(_, schema)| schema.get("properties").is_some());
    for (key, schema) in values {
        comment(schema, text);
        match schema.get("default").map(toml::Value::try_from) {
            // By its own header further down a table could not be given beside this.
            Some(Ok(toml::Value::Table(_))) => text.push_str(&format!("# {key} = {{}}\n")),
            Some(Ok(default)) => text.push_str(&format!("{key} = {default}\n")),
            _ => text.push_str(&format!("# {key} = \"\"\n")),
        }
    }
    for (key, schema) in tables {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        comment(schema, text);
        text.push_str(&format!("[{name}]\n"));
        keys(schema, &name, text);
    }
}

/// Appends the description as comment lines of at most 100 characters, after an empty line.
fn comment(schema: &Value, text: &mut String) {
    text.push_str("\n#");
    let mut width = 1;
    for word in schema["description"].as_str().unwrap_or_default().split(' ') {
        if width + 1 + word.chars().count() > 100 {
            text.push_str("\n#");
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += 1 + word.chars().count();
    }
    text.push('\n');
}

macro_rules! described {
    ($($kind:ty => $schema:tt,)*) => {
        $(impl Described for $kind {
            fn schema() -> Value {
                json!($schema)
            }
        })*
    };
}

described! {
    usize => {"type": "integer", "minimum": 0},
    u64 => {"type": "integer", "minimum": 0},
    u32 => {"type": "integer", "minimum": 0, "maximum": u32::MAX},
    bool => {"type": "boolean"},
    f64 => {"type": "number", "minimum": 0},
    String => {"type": "string"},
    PathBuf => {"type": "string"},
    SocketAddr => {"type": "string"},
    Device => {"type": "string", "pattern": "^(cpu|cuda:[0-9]+)$"},
    VersionPolicy => {
        "oneOf": [
            {
                "type": "object",
                "properties": {"latest": {"type": "integer", "minimum": 1}},
                "required": ["latest"],
                "additionalProperties": false,
            },
            {
                "type": "object",
                "properties": {
                    "named": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
                },
                "required": ["named"],
                "additionalProperties": false,
            },
        ],
    },
}

impl<T: Described> Described for Option<T> {
    const OPTIONAL: bool = true;

    fn schema() -> Value {
        T::schema()
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

/// The schema of a choice between words, from the type that the command line reads them with.
pub(crate) fn choice<T: clap::ValueEnum>() -> Value {
    let words = T::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
    let words: Vec<String> = words.map(|word| word.get_name().to_owned()).collect();
    json!({"type": "string", "enum": words})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// The files in `deploy/`, with the command that writes them again.
    #[test]
    fn the_deployed_example_and_schema_are_those_of_this_program() {
        for (name, flag, expected) in
            [("server.toml", "--example", example()), ("server.schema.json", "--schema", json_schema())]
        {
            let path = format!("{}/../../deploy/{name}", env!("CARGO_MANIFEST_DIR"));
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, expected, "run `gatefold-server {flag} > deploy/{name}`");
        }
    }

    #[test]
    fn the_example_explains_every_key_and_sets_the_defaults() {
        let example = example();
        assert_eq!(Settings::from_toml(&example, "server.toml").unwrap(), Settings::default());
        let lines: Vec<&str> = example.lines().collect();
        for name in super::super::environment::keys().map(|(key, _)| key) {
            let last = name.rsplit('.').next().unwrap();
            let at = lines.iter().position(|line| {
                line.trim_start_matches("# ").strip_prefix(last).is_some_and(|rest| rest.starts_with(" ="))
            });
            let at = at.unwrap_or_else(|| panic!("{name} is not in the example"));
            assert!(lines[at - 1].starts_with("# "), "{name} is not explained");
        }
    }

    #[test]
    fn the_experiment_of_the_example_is_one() {
        let lines = EXPERIMENT.lines().skip_while(|line| !line.contains('['));
        let lines: Vec<&str> = lines.map(|line| line.trim_start_matches("# ")).collect();
        let text = example().replace(EXPERIMENT, &lines.join("\n"));
        let settings = Settings::from_toml(&text, "server.toml").unwrap();
        settings.check().unwrap();
        let arms = &settings.experiments["gates"].arms;
        assert_eq!((arms[0].version, arms[1].label.as_deref()), (Some(3), Some("canary")));
    }

    #[test]
    fn the_schema_knows_types_defaults_texts_and_tables() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let properties = &schema["properties"];
        assert_eq!(properties["workers"]["type"], "integer");
        assert_eq!(properties["listen"]["default"], "127.0.0.1:8500");
        assert_eq!(properties["log"]["enum"], json!(["text", "json"]));
        assert_eq!(properties["limits"]["properties"]["candidates"]["default"], 10_000);
        assert_eq!(properties["limits"]["additionalProperties"], false);
        let experiment = &properties["experiments"]["additionalProperties"];
        assert_eq!(experiment["required"], json!(["model", "arms"]));
        let arm = &experiment["properties"]["arms"]["items"];
        assert_eq!(
            (&arm["required"], &arm["additionalProperties"]),
            (&json!(["name", "share"]), &json!(false))
        );
        assert_eq!(
            (&arm["properties"]["label"]["type"], arm["properties"]["share"].get("default")),
            (&json!("string"), None)
        );
        let about = properties["drain_seconds"]["description"].as_str().unwrap();
        assert!(about.starts_with("Seconds that requests in flight have to finish once"), "{about}");
        assert_eq!(properties["ort_library"].get("default"), None);
    }
}
