//! Describes why a message can't be decoded, without quoting texts. The description goes to results, logs and dead letters,
//! and a malformed message may have an article in any place.

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Deserializer, Error, Value};
use serde_path_to_error::{Path, Segment};

use crate::ids::is_token;
use crate::strict_json::{Strict, without_mark};

/// Maximum length of a description, in characters.
const MAX_CHARS: usize = 300;

/// Maximum length of a quoted value, in characters. An article is longer.
const MAX_VALUE_CHARS: usize = 32;
/// Fields whose values are texts or notes of clients, which are never quoted.
const TEXTS: [&str; 4] = ["text", "reference", "summary", "metadata"];

/// Describes why `body` is no `T`: [`describe`] after the field's name and, if it is one word or number, its value.
pub fn describe_field<T: DeserializeOwned>(body: &[u8], error: &Error) -> String {
    let description = describe(error);
    let body = without_mark(body);
    // Tracking the path costs as much as decoding, so it is done only for an error.
    let tracked = serde_path_to_error::deserialize::<_, T>(Strict(&mut Deserializer::from_slice(body)));
    let Some(place) = tracked.err().filter(|error| error.inner().is_data()) else {
        return description;
    };
    let field = shown_path(place.path());
    match value_at(body, place.path()).as_ref().and_then(shown_value) {
        _ if field.is_empty() => description,
        Some(value) => format!("{field} is {value}: {description}"),
        None => format!("{field}: {description}"),
    }
}

/// Describes the error of decoding a `T` from `body` for the client that sent it: the field, and then the problem, which
/// may quote the value.
pub fn explain_field<T: DeserializeOwned>(body: &[u8], error: &Error) -> String {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    let message = in_json_terms(&message);
    let body = without_mark(body);
    let tracked = serde_path_to_error::deserialize::<_, T>(Strict(&mut Deserializer::from_slice(body)));
    let place = tracked.err().filter(|error| error.inner().is_data());
    match place.map(|error| error.path().to_string().trim_end_matches(".?").to_owned()) {
        Some(path) if path != "." && path != "?" => format!("{path}: {message}"),
        _ => message,
    }
}

/// Describes the error of a query string in the words of `serde_urlencoded`, without words of Rust.
pub fn explain_query(text: &str) -> String {
    let text = text.trim_start_matches("Failed to deserialize query string: ");
    match text.rsplit_once(": ") {
        Some((name, "invalid digit found in string" | "cannot parse integer from empty string")) => {
            format!("{name} must be a whole number of at least 0")
        }
        Some((name, "number too large to fit in target type")) => format!("{name} is too large"),
        Some((name, "provided string was not `true` or `false`")) => format!("{name} must be true or false"),
        _ => text.to_owned(),
    }
}

/// Returns a path such as `params.num_beams`, or an empty string for the whole message. A key that may be a text is cut out.
fn shown_path(path: &Path) -> String {
    let parts = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } if is_token(key) => Some(key.clone()),
        Segment::Map { .. } => Some("…".to_owned()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Returns the value at `path`, unless it belongs to a text.
fn value_at(body: &[u8], path: &Path) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    for segment in path.iter() {
        value = match segment {
            Segment::Map { key } if TEXTS.contains(&key.as_str()) => return None,
            Segment::Map { key } => value.get_mut(key)?.take(),
            Segment::Seq { index } => value.get_mut(*index)?.take(),
            Segment::Enum { .. } | Segment::Unknown => value,
        };
    }
    Some(value)
}

/// Returns a word, number or truth value as a message shows it.
fn shown_value(value: &Value) -> Option<String> {
    let is_word = |text: &str| {
        let may_be = |c: char| c.is_ascii_alphanumeric() || "_.:+-/".contains(c);
        text.len() <= MAX_VALUE_CHARS && text.chars().all(may_be)
    };
    match value {
        Value::String(text) => is_word(text).then(|| format!("\"{text}\"")),
        Value::Number(number) => Some(number.to_string()).filter(|text| is_word(text)),
        Value::Bool(_) | Value::Null => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Describes the error and its position. It names fields and types of the contract, never values.
pub fn describe(error: &Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data {
        // Syntax errors quote nothing.
        return text;
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    let (message, place) = match text.strip_suffix(&place) {
        Some(message) => (message, place.as_str()),
        None => (text.as_str(), ""),
    };
    let description: String = without_values(message).chars().take(MAX_CHARS).collect();
    description + place
}

/// Rewrites a message of serde_json about a wrong type or value: it names the types of JSON in place of those of Rust.
pub fn in_json_terms(message: &str) -> String {
    let is_known = ["invalid type: ", "invalid value: "]
        .into_iter()
        .find_map(|wrong| Some((wrong, message.strip_prefix(wrong)?)));
    let Some((wrong, (found, expected))) =
        is_known.and_then(|(wrong, rest)| Some((wrong, rest.rsplit_once(", expected ")?)))
    else {
        return message.to_owned();
    };
    let (expected, place) = match expected.find(" at line ") {
        Some(at) => expected.split_at(at),
        None => (expected, ""),
    };
    let found = match found {
        "sequence" => "array",
        "map" => "object",
        "unit value" => "null",
        _ => found,
    };
    // A struct can also be expected "with 3 elements".
    let first = expected.split(' ').next().unwrap_or_default();
    let expected = match (first, expected) {
        ("struct", _) | (_, "a map") => "an object",
        (_, "a sequence") => "an array",
        ("enum", _) | (_, "variant identifier" | "field identifier") => "a string",
        (_, "a boolean") => "true or false",
        (_, "u64" | "usize") => "a whole number of at least 0",
        (_, "u32") => "a whole number from 0 to 4294967295",
        (_, "u16") => "a whole number from 0 to 65535",
        (_, "u8") => "a whole number from 0 to 255",
        (_, "i32" | "i64" | "isize") => "a whole number",
        (_, "f32" | "f64") => "a number",
        _ => expected,
    };
    format!("{wrong}{found}, expected {expected}{place}")
}

fn without_values(message: &str) -> String {
    for wrong in ["invalid type: ", "invalid value: "] {
        let parts = message.strip_prefix(wrong);
        if let Some((found, expected)) = parts.and_then(|rest| rest.rsplit_once(", expected ")) {
            let kind = found
                .split(['"', '`', '\''])
                .next()
                .unwrap_or_default()
                .trim_end();
            return in_json_terms(&format!("{wrong}{kind}, expected {expected}"));
        }
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let expected = rest
            .rsplit_once("`, expected ")
            .map_or("none", |(_, expected)| expected);
        return format!("unknown variant, expected {expected}");
    }
    if let Some((name, rest)) = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.rsplit_once("`, expected "))
        .filter(|(name, _)| is_token(name))
    {
        return format!("unknown field `{name}`, expected {rest}");
    }
    if let Some(name) = message
        .strip_prefix("duplicate field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return match is_token(name) {
            true => message.to_owned(),
            // A key of metadata.
            false => "duplicate field".to_owned(),
        };
    }
    if ["missing field `", "invalid length "]
        .iter()
        .any(|known| message.starts_with(known))
    {
        return message.to_owned();
    }
    // Other messages may quote the value between quotation marks: cut it out.
    match (message.find(['"', '`', '\'']), message.rfind(['"', '`', '\''])) {
        (Some(first), Some(last)) => format!("{}…{}", &message[..first], &message[last + 1..]),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::JobResult;
    use crate::job::Job;

    fn of(body: &str) -> String {
        describe(&crate::strict_json::from_str::<Job>(body).unwrap_err())
    }

    #[test]
    fn descriptions_name_the_type_and_the_position() {
        for (body, part) in [
            (
                r#""A whole article.""#,
                "invalid type: string, expected an object at line 1",
            ),
            (
                r#"{"id":"a1","text":7}"#,
                "invalid type: integer, expected a string",
            ),
            (r#"{"id":"a1","text":"x","lane":"high"}"#, "unknown field `lane`"),
            (r#"{"id":"a1"}"#, "missing field `text`"),
            (r#"{"id":"a 1","text":"x"}"#, "1 to 64 characters"),
            (
                r#"{"id":"a1","text":"x","channel":"fax"}"#,
                "unknown variant, expected",
            ),
            (r#"{"id":"a1","#, "EOF while parsing"),
        ] {
            assert!(of(body).contains(part), "{body}: {}", of(body));
        }
    }

    #[test]
    fn fields_and_short_values_are_named() {
        let of = |body: &str| {
            let error = serde_json::from_str::<Job>(body).unwrap_err();
            describe_field::<Job>(body.as_bytes(), &error)
        };
        for (body, start, part) in [
            (
                r#"{"id":"a1","text":"x","channel":"fax"}"#,
                "channel is \"fax\": unknown variant",
                "`mlflow`",
            ),
            (
                r#"{"id":"a1","text":"x","params":{"num_beams":"eight"}}"#,
                "params.num_beams is \"eight\": ",
                "a whole number from 0 to 4294967295",
            ),
            (
                r#"{"id":"a1","text":"x","params":{"long_text":"soon"}}"#,
                "params.long_text is \"soon\": ",
                "`map_reduce`",
            ),
            (
                r#"{"id":"a1","text":"x","stemmed":1}"#,
                "stemmed is 1: ",
                "true or false",
            ),
            (
                r#"{"id":"a.1","text":"x"}"#,
                "id is \"a.1\": ",
                "1 to 64 characters",
            ),
            // Neither texts nor notes are quoted.
            (r#"{"id":"a1","text":7}"#, "text: invalid type", "string"),
            (
                r#"{"id":"a1","text":"x","metadata":{"page":7}}"#,
                "metadata.page: invalid type",
                "string",
            ),
            (r#"{"id":"a1"}"#, "missing field `text`", "line 1"),
            (r#"{"id":"a1","#, "EOF", "line 1"),
        ] {
            let description = of(body);
            assert!(
                description.starts_with(start) && description.contains(part),
                "{body}: {description}"
            );
        }
    }

    proptest! {
        #[test]
        fn descriptions_never_contain_values(more in "[a-z\"\\\\`', ]{0,40}") {
            let secret = format!("s3cret {more}, expected `x` s3cret");
            let text = serde_json::to_string(&secret).unwrap();
            for body in [
                text.clone(),
                format!(r#"{{"id":{text},"text":"x"}}"#),
                format!(r#"{{"id":"a","text":[{text}]}}"#),
                format!(r#"{{"id":"a","text":"x","params":{text}}}"#),
                format!(r#"{{"id":"a","text":"x","channel":{text}}}"#),
                format!(r#"{{"id":"a","text":"x","deadline":{text}}}"#),
                format!(r#"{{"id":"a","text":"x","metadata":{text}}}"#),
                format!(r#"{{"id":"a","text":"x",{text}:1}}"#),
                format!(r#"{{"id":"a","text":"x","metadata":{{{text}:"1",{text}:"2"}}}}"#),
                format!(r#"{{"id":"a","text":"x","batch":{{"id":{text},"index":0}}}}"#),
            ] {
                let description = of(&body);
                prop_assert!(!description.contains("s3cret"), "{}: {}", body, description);
                let error = crate::strict_json::from_str::<Job>(&body).unwrap_err();
                let description = describe_field::<Job>(body.as_bytes(), &error);
                prop_assert!(!description.contains("s3cret"), "{}: {}", body, description);
            }
            let description = describe(&serde_json::from_str::<JobResult>(&text).unwrap_err());
            prop_assert!(!description.contains("s3cret"), "{}", description);
        }
    }
}
