//! White space as Python counts it, which the reference implementations rely on.

/// Whether Python's `str.isspace` and `\s` accept the character.
///
/// That is Unicode's `White_Space` and the four ASCII separators U+001C to U+001F, which Rust leaves out.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
