//! Describes why a message can't be decoded, without quoting it. The description goes to logs and dead letters, and a
//! malformed message may have an article in any place.

use serde_json::Error;
use serde_json::error::Category;

/// Maximum length of a description, in characters.
const MAX_CHARS: usize = 300;

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

fn without_values(message: &str) -> String {
    for wrong in ["invalid type: ", "invalid value: "] {
        let parts = message.strip_prefix(wrong);
        if let Some((found, expected)) = parts.and_then(|rest| rest.rsplit_once(", expected ")) {
            let kind = found
                .split(['"', '`', '\''])
                .next()
                .unwrap_or_default()
                .trim_end();
            return format!("{wrong}{kind}, expected {expected}");
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
        .filter(|(name, _)| crate::ids::is_token(name))
    {
        return format!("unknown field `{name}`, expected {rest}");
    }
    if ["missing field `", "duplicate field `", "invalid length "]
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
        describe(&serde_json::from_str::<Job>(body).unwrap_err())
    }

    #[test]
    fn descriptions_name_the_type_and_the_position() {
        for (body, part) in [
            (
                r#""A whole article.""#,
                "invalid type: string, expected struct Job at line 1",
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
                format!(r#"{{"id":"a","text":"x","batch":{{"id":{text},"index":0}}}}"#),
            ] {
                let description = of(&body);
                prop_assert!(!description.contains("s3cret"), "{}: {}", body, description);
            }
            let description = describe(&serde_json::from_str::<JobResult>(&text).unwrap_err());
            prop_assert!(!description.contains("s3cret"), "{}", description);
        }
    }
}
