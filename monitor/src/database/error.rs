//! Meaning of ClickHouse errors.

use clickhouse::error::Error;

/// Codes with which ClickHouse rejects the content of a row. The same rows would be rejected again.
///
/// Every other failure (no connection, no memory, too many parts, no such table, no right to insert) is unrelated to
/// the rows. It passes, or an operator fixes it, and the rows wait meanwhile.
const CONTENT_REJECTIONS: &[u32] = &[
    6,   // CANNOT_PARSE_TEXT
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  // CANNOT_READ_ALL_DATA
    38,  // CANNOT_PARSE_DATE
    41,  // CANNOT_PARSE_DATETIME
    53,  // TYPE_MISMATCH
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    72,  // CANNOT_PARSE_NUMBER
    117, // INCORRECT_DATA
    128, // TOO_LARGE_ARRAY_SIZE
    131, // TOO_LARGE_STRING_SIZE
    321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    407, // DECIMAL_OVERFLOW
    469, // VIOLATED_CONSTRAINT
    691, // UNKNOWN_ELEMENT_OF_ENUM
];

/// Returns the number in `Code: 469. DB::Exception: …`.
fn server_code(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Longest reason, in characters. Errors quote their input, which may be a whole text.
const MAX_REASON_CHARS: usize = 400;

/// Returns the error with its causes, in one line of at most 400 characters.
pub(crate) fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    cut(text)
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Returns why ClickHouse rejects a row, without the row's content: the message up to its first quotation, and the name
/// of the error.
pub(crate) fn rejection(error: &Error) -> String {
    let text = error.to_string();
    let quoted = text.find(['\'', '"']).unwrap_or(text.len());
    let message = cut(text[..quoted].trim_end().to_owned());
    let is_name = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
    };
    let names = text
        .rsplit('(')
        .filter_map(|part| part.split_once(')').map(|(name, _)| name));
    match names.into_iter().find(is_name) {
        Some(name) if !message.contains(name) => format!("{message} … ({name})"),
        _ => message,
    }
}

/// Whether ClickHouse rejects the content of the rows.
pub(crate) fn is_content_rejection(error: &Error) -> bool {
    match error {
        Error::BadResponse(message) => {
            server_code(message).is_some_and(|code| CONTENT_REJECTIONS.contains(&code))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_about_content_reject_rows() {
        let rejection = |text: &str| is_content_rejection(&Error::BadResponse(text.into()));
        assert!(rejection(
            "Code: 469. DB::Exception: Constraint `c` is violated (version 26.7)"
        ));
        assert!(!rejection("Code: 241. DB::Exception: Memory limit exceeded"));
        assert!(!rejection("Code: 252. DB::Exception: Too many parts"));
        assert!(!rejection("502 Bad Gateway"));
        assert!(!is_content_rejection(&Error::TimedOut));
    }

    #[test]
    fn an_error_is_explained_with_its_cause_up_to_a_maximum_length() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let text = explain(&Error::Network(Box::new(refused)));
        assert_eq!(text, "network error: connection refused");
        let long = explain(&Error::BadResponse("é".repeat(10_000)));
        assert_eq!(long.chars().count(), MAX_REASON_CHARS + 1);
    }

    #[test]
    fn a_rejection_names_the_error_and_hides_the_row() {
        let message = "Code: 469. DB::Exception: Constraint `short` for table p.t is violated at row 1. Expression: (length(\
            text) < 3). Column values: text = 'A whole article (IN FULL).'. (VIOLATED_CONSTRAINT) (version 26.7)";
        let reason = rejection(&Error::BadResponse(message.into()));
        assert!(
            reason.contains("`short`") && reason.ends_with("(VIOLATED_CONSTRAINT)"),
            "{reason}"
        );
        assert!(!reason.contains("article"), "{reason}");
    }
}
