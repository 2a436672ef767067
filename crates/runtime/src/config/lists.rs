//! Reads lists, also from strings: environment variables and `--set` can't carry lists.

use precis_schemas::Lane;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads strings from a list or from one string with commas.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        List(Vec<String>),
        Text(String),
    }
    let texts = match Given::deserialize(deserializer)? {
        Given::List(texts) => texts,
        Given::Text(text) => text
            .trim_matches(['[', ']'])
            .split(',')
            .map(|text| text.trim().trim_matches('"').to_owned())
            .filter(|text| !text.is_empty())
            .collect(),
    };
    Ok(texts)
}

/// Reads lanes as [`texts`] reads strings.
pub(super) fn lanes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Lane>, D::Error> {
    let named = |name: &String| name.trim().parse::<Lane>().map_err(D::Error::custom);
    texts(deserializer)?.iter().map(named).collect()
}

/// Reads names as [`texts`] reads strings, trims them, and drops empty ones.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = texts(deserializer)?;
    let plain = texts.iter().map(|name| name.trim().trim_matches('"'));
    Ok(plain.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Named {
        #[serde(deserialize_with = "names")]
        names: Vec<String>,
    }

    #[test]
    fn names_are_trimmed_and_empty_ones_dropped() {
        for text in [
            r#"{"names": ["one", " two ", ""]}"#,
            r#"{"names": "[\"one\", two,]"}"#,
            r#"{"names": "one,two"}"#,
        ] {
            let named: Named = serde_json::from_str(text).unwrap();
            assert_eq!(named.names, ["one", "two"], "{text}");
        }
    }
}
