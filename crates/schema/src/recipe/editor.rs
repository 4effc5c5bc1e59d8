//! The JSON schema of a recipe, by which editors complete keys, show what they mean and mark mistakes.
//!
//! It is made from the types that recipes are read into and their documentation, so that it cannot say
//! anything else than the program does.

use schemars::r#gen::SchemaSettings;
use serde_json::Value;

use super::Recipe;

/// The JSON schema (draft 2019-09) of a recipe.
pub fn json_schema() -> String {
    // TOML has no null: what is optional is left out.
    let settings = SchemaSettings::draft2019_09().with(|settings| settings.option_add_null_type = false);
    let mut schema = serde_json::json!(settings.into_generator().into_root_schema_for::<Recipe>());
    schema["title"] = "Recipe of Gatefold".into();
    tidy(&mut schema);
    format!("{schema:#}\n")
}

/// Texts as a person reads them, and defaults as one would write them.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(tidy),
        Value::Object(parts) => {
            for (key, part) in parts {
                match part {
                    Value::String(text) if key == "description" => *text = plain(text),
                    default if key == "default" => shortest(default),
                    other => tidy(other),
                }
            }
        }
        _ => {}
    }
}

/// Documentation without line breaks inside a paragraph and without links to code.
fn plain(text: &str) -> String {
    let text = text.replace("[`", "`").replace("`]", "`");
    let paragraphs =
        text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Numbers that are whole in 32 bits, with the digits that 32 bits have.
fn shortest(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let Some(wide) = number.as_f64().filter(|_| number.is_f64()) else { return };
            let narrow = wide as f32;
            if f64::from(narrow) == wide
                && let Ok(written) = narrow.to_string().parse::<f64>()
            {
                *value = written.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shortest),
        Value::Object(values) => values.values_mut().for_each(shortest),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_keys_texts_defaults_and_both_forms_of_a_log() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["feature", "name", "samples", "task"]));
        let definitions = &schema["definitions"];
        let rate = &definitions["TrainConfig"]["properties"]["learning_rate"];
        assert_eq!(
            (rate["default"].to_string().as_str(), rate["description"].as_str()),
            ("0.001", Some("Step size of the optimizer."))
        );
        let samples = &definitions["SamplesConfig"]["properties"];
        assert_eq!(samples["leak_auc"]["default"], 0.95);
        assert!(
            samples["rows_per_shard"]["description"]
                .as_str()
                .unwrap()
                .starts_with("Rows a shard file holds at most.")
        );
        let impressions = definitions["EventLogs"]["properties"]["impressions"].to_string();
        assert!(impressions.contains("FilesOrLog"), "{impressions}");
        assert_eq!(definitions["FilesOrLog"]["anyOf"].as_array().unwrap().len(), 2);
        assert_eq!(definitions["Span"]["type"], "string");
    }

    #[test]
    fn samples_alone_are_a_recipe() {
        let text = r#"
name = "alone"
samples.logs = { impressions = "i.parquet", clicks = "c.parquet" }
feature = [{ name = "hour", side = "context", kind = "numeric", type = "int", encoder = { kind = "none" } }]
task = [{ name = "ctr", label = "click" }]
"#;
        assert_eq!(Recipe::parse(text, "samples.toml").unwrap().samples.leak_auc, 0.95);
    }
}
