//! White space as Python defines it, which the reference implementations depend on.

/// Returns whether Python's `str.isspace` and `\s` match the character: Unicode's `White_Space` and the four ASCII
/// separators U+001C to U+001F, which Rust excludes.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
