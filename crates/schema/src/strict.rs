//! Parsing that refuses what it does not know, and says where and what was probably meant.

use serde::de::DeserializeOwned;

/// A configuration that cannot be used, with the place and the remedy in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    /// An error with this text.
    pub fn new(message: String) -> Self {
        Self { message }
    }
}

/// Parses TOML text; `origin` is the file's name as the person knows it.
///
/// # Errors
/// Syntax errors, wrong types and unknown keys, each as `origin:line: what (nearest known key)`.
pub fn from_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let place = line.map_or_else(|| origin.to_owned(), |line| format!("{origin}:{line}"));
        ConfigError::new(format!("{place}: {}", with_suggestion(error.message())))
    })
}

/// Parses JSON text; `origin` is the file's name as the person knows it.
///
/// # Errors
/// As [`from_toml`].
pub fn from_json<T: DeserializeOwned>(text: &[u8], origin: &str) -> Result<T, ConfigError> {
    serde_json::from_slice(text).map_err(|error| {
        // The library ends its message with the place.
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message);
        ConfigError::new(format!("{origin}:{}: {}", error.line(), with_suggestion(message)))
    })
}

/// Adds the nearest known name to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !(message.starts_with("unknown field") || message.starts_with("unknown variant")) {
        return message.to_owned();
    }
    let Some(found) = quoted.next() else { return message.to_owned() };
    match nearest(found, quoted) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message.to_owned(),
    }
}

/// Bytes beyond which a name is like no other; comparing takes time with its length.
const LONGEST_NAME: usize = 256;

/// The candidate most like `found`, if any is near enough to be meant.
pub fn nearest<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .filter(|_| found.len() <= LONGEST_NAME)
        .map(|candidate| (strsim::jaro_winkler(found, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    #[test]
    fn unknown_key_names_line_and_nearest_key() {
        let error = from_toml::<TrainConfig>("epochs = 2\nbatch_sise = 256\n", "recipe.toml").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("recipe.toml:2: unknown field `batch_sise`"), "{text}");
        assert!(text.ends_with("did you mean `batch_size`?"), "{text}");
    }

    #[test]
    fn wrong_type_names_the_line() {
        let error = from_toml::<TrainConfig>("epochs = \"two\"\n", "recipe.toml").unwrap_err();
        assert!(error.to_string().starts_with("recipe.toml:1: invalid type"), "{error}");
    }

    #[test]
    fn an_error_in_json_has_its_line_once() {
        let text = |json: &str| from_json::<TrainConfig>(json.as_bytes(), "x.json").unwrap_err().to_string();
        assert_eq!(text("{\n\"epochs\": \"two\"}"), "x.json:2: invalid type: string \"two\", expected usize");
        let unknown = text("{\n\n\"batch_sise\": 3}");
        assert!(unknown.starts_with("x.json:3: unknown field `batch_sise`, expected one of"), "{unknown}");
        assert!(
            unknown.ends_with("; did you mean `batch_size`?") && !unknown.contains(" at line"),
            "{unknown}"
        );
        assert_eq!(text("{"), "x.json:1: EOF while parsing an object");
    }

    #[test]
    fn nothing_near_is_not_guessed() {
        assert_eq!(nearest("zzz", ["batch_size", "epochs"].into_iter()), None);
        let long = "batch_size".repeat(30);
        assert_eq!(nearest(&long, [long.as_str()].into_iter()), None);
    }
}
