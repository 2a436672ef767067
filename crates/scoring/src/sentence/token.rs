//! Punkt's tokens and their orthographic features.

use std::borrow::Cow;

/// The type of every number.
pub(super) const NUMBER: &str = "##number##";

/// Returns whether a character may close a sentence after its mark.
pub(super) fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '}') || is_quote(c)
}

/// Returns whether a character is a curly quote or guillemet.
fn is_quote(c: char) -> bool {
    matches!(
        c,
        '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' | '\u{ab}' | '\u{bb}'
    )
}

/// Returns whether a character cannot occur inside a word.
pub(super) fn ends_word(c: char) -> bool {
    is_closing(c) || matches!(c, ';' | '*' | ':' | '@' | '(' | '{' | '[' | '!' | '?')
}

/// Returns whether a character cannot start a word of more than one character.
fn bars_word(c: char) -> bool {
    matches!(
        c,
        '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ','
    )
}

/// Splits a text into words and signs, from left to right.
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        let length = match dashes_or_dots(self.rest) {
            Some(length) => length,
            None if bars_word(first) => first.len_utf8(),
            None => word_length(self.rest),
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(word)
    }
}

/// Returns the length of the word that starts here: at least one character, up to the first sign that ends a word.
fn word_length(text: &str) -> usize {
    let ends = |at: usize, c: char| {
        c.is_whitespace() || ends_word(c) || matches!(c, '-' | '.') && dashes_or_dots(&text[at..]).is_some()
    };
    for (at, c) in text.char_indices().skip(1) {
        let after = at + c.len_utf8();
        let comma_at_end = || c == ',' && text[after..].chars().next().is_none_or(|next| ends(after, next));
        if ends(at, c) || comma_at_end() {
            return at;
        }
    }
    text.len()
}

/// Returns the length of two or more dashes, of two or more dots, or of three or more dots separated by single spaces.
fn dashes_or_dots(text: &str) -> Option<usize> {
    let same = |c: char| text.len() - text.trim_start_matches(c).len();
    match text.as_bytes() {
        [b'-', b'-', ..] => Some(same('-')),
        [b'.', b'.', ..] => Some(same('.')),
        [b'.', ..] => spaced_dots(text),
        _ => None,
    }
}

/// Returns the length of `. . .` and longer.
fn spaced_dots(text: &str) -> Option<usize> {
    let mut dots = 1;
    let mut length = 1;
    let mut chars = text[1..].chars();
    while let (Some(space), Some('.')) = (chars.next(), chars.next()) {
        if !space.is_whitespace() || space == '\n' {
            break;
        }
        dots += 1;
        length += space.len_utf8() + 1;
    }
    (dots >= 3).then_some(length)
}

/// A token with the decisions so far.
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Ends a sentence.
    pub(super) sentence_break: bool,
    /// Is an abbreviation.
    pub(super) abbreviation: bool,
    /// Is two or more dots.
    pub(super) ellipsis: bool,
}

impl<'a> Token<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            sentence_break: false,
            abbreviation: false,
            ellipsis: false,
        }
    }

    pub(super) fn ends_in_period(&self) -> bool {
        self.text.ends_with('.')
    }

    pub(super) fn is_dots(&self) -> bool {
        self.text.len() > 1 && self.text.bytes().all(|byte| byte == b'.')
    }

    /// Returns whether it is a single letter with a period.
    pub(super) fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let letter = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
        letter && chars.as_str() == "."
    }

    pub(super) fn starts_upper(&self) -> bool {
        self.text.starts_with(char::is_uppercase)
    }

    pub(super) fn starts_lower(&self) -> bool {
        self.text.starts_with(char::is_lowercase)
    }

    /// Returns the word in lower case without a trailing period; any number is [`NUMBER`].
    pub(super) fn type_without_period(&self) -> Cow<'static, str> {
        match self.whole_type() {
            Cow::Owned(mut word) if word.len() > 1 && word.ends_with('.') => {
                word.pop();
                Cow::Owned(word)
            }
            word => word,
        }
    }

    /// Returns the same, with the period unless it ends a sentence.
    pub(super) fn type_for_context(&self) -> Cow<'static, str> {
        if self.sentence_break {
            self.type_without_period()
        } else {
            self.whole_type()
        }
    }

    fn whole_type(&self) -> Cow<'static, str> {
        if is_number(self.text) {
            Cow::Borrowed(NUMBER)
        } else {
            Cow::Owned(self.text.to_lowercase())
        }
    }
}

/// Returns whether a word is digits with points, commas and hyphens, an optional leading sign or point, and an optional
/// trailing period.
fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let digits = unsigned.strip_prefix(['.', ',']).unwrap_or(unsigned);
    digits.starts_with(is_digit)
        && digits
            .chars()
            .all(|c| is_digit(c) || matches!(c, ',' | '.' | '-'))
}

/// Returns whether a character is a decimal digit: Latin, full-width, Arabic or Devanagari.
fn is_digit(c: char) -> bool {
    matches!(
        c,
        '0'..='9'
            | '\u{ff10}'..='\u{ff19}'
            | '\u{660}'..='\u{669}'
            | '\u{6f0}'..='\u{6f9}'
            | '\u{966}'..='\u{96f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Words::new(text).collect()
    }

    #[test]
    fn words_end_at_signs_and_keep_their_periods() {
        assert_eq!(
            words("U.S. (1,000.5,) isn't well-known--or..."),
            [
                "U.S.",
                "(",
                "1,000.5",
                ",",
                ")",
                "isn",
                "'t",
                "well-known",
                "--",
                "or",
                "..."
            ]
        );
        assert_eq!(words("a . . . b. c"), ["a", ". . .", "b.", "c"]);
        assert_eq!(words("x, y,z, ,"), ["x", ",", "y,z", ",", ","]);
        assert_eq!(words(". . a -b"), [".", ".", "a", "-", "b"]);
    }

    #[test]
    fn numbers_are_recognized() {
        for number in ["5", "77,410.5", "-3.", ".5", "1990-95"] {
            assert!(is_number(number), "{number}");
        }
        for word in ["", "-", ".", "3.5m", "$5", "a1", "5th"] {
            assert!(!is_number(word), "{word}");
        }
    }

    #[test]
    fn initials_are_one_letter_with_a_period() {
        for (word, initial) in [
            ("J.", true),
            ("\u{c9}.", true),
            ("5.", false),
            ("J.K.", false),
            (".", false),
        ] {
            assert_eq!(Token::new(word).is_initial(), initial, "{word}");
        }
    }
}
