//! What errors of ClickHouse mean.

use clickhouse::error::Error;

/// Codes with which ClickHouse refuses what is in a row: the same rows would be refused for ever.
///
/// Every other failure (no connection, no memory, too many parts, no such table, no right to insert) is no
/// fault of the rows. It passes, or an operator puts it right, and meanwhile the rows are kept.
const REFUSED_FOR_THEIR_CONTENT: &[u32] = &[
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

/// The number in `Code: 469. DB::Exception: …`.
fn server_code(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Longest reason that is kept: errors repeat what they are about, whole texts among them.
const MAX_REASON_CHARS: usize = 400;

/// The error with what caused it, in one line of bounded length.
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

/// `text` at bounded length.
pub(crate) fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Why ClickHouse refuses a row, without what is in it: the beginning of its message up to where it quotes something, and
/// the name of the error.
pub(crate) fn refusal(error: &Error) -> String {
    let text = error.to_string();
    let quoted = text.find(['\'', '"']).unwrap_or(text.len());
    let told = cut(text[..quoted].trim_end().to_owned());
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
        Some(name) if !told.contains(name) => format!("{told} … ({name})"),
        _ => told,
    }
}

/// Whether ClickHouse refuses the rows for what is in them.
pub(crate) fn is_refusal_of_content(error: &Error) -> bool {
    match error {
        Error::BadResponse(message) => {
            server_code(message).is_some_and(|code| REFUSED_FOR_THEIR_CONTENT.contains(&code))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_content_of_rows_is_a_reason_to_refuse_them() {
        let refusal = |text: &str| is_refusal_of_content(&Error::BadResponse(text.into()));
        assert!(refusal(
            "Code: 469. DB::Exception: Constraint `c` is violated (version 26.7)"
        ));
        assert!(!refusal("Code: 241. DB::Exception: Memory limit exceeded"));
        assert!(!refusal("Code: 252. DB::Exception: Too many parts"));
        assert!(!refusal("502 Bad Gateway"));
        assert!(!is_refusal_of_content(&Error::TimedOut));
    }

    #[test]
    fn an_error_is_explained_with_its_cause_and_at_bounded_length() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let text = explain(&Error::Network(Box::new(refused)));
        assert_eq!(text, "network error: connection refused");
        let long = explain(&Error::BadResponse("é".repeat(10_000)));
        assert_eq!(long.chars().count(), MAX_REASON_CHARS + 1);
    }

    #[test]
    fn a_refusal_has_its_name_and_nothing_of_the_row() {
        let message = "Code: 469. DB::Exception: Constraint `short` for table p.t is violated at row 1. Expression: (length(\
            text) < 3). Column values: text = 'A whole article (IN FULL).'. (VIOLATED_CONSTRAINT) (version 26.7)";
        let told = refusal(&Error::BadResponse(message.into()));
        assert!(
            told.contains("`short`") && told.ends_with("(VIOLATED_CONSTRAINT)"),
            "{told}"
        );
        assert!(!told.contains("article"), "{told}");
    }
}
