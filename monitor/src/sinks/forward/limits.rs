//! Size limits of the targets. Arize's are those that its SDK 7.x checks before sending.

use jiff::{SignedDuration, Timestamp};

/// Most characters of a document or summary.
pub(crate) const TEXT_CHARS: usize = 2_000_000;
/// Most characters of a tag.
pub(crate) const TAG_CHARS: usize = 20_000;
/// Allowed lengths of an id, in characters.
pub(crate) const ID_CHARS: std::ops::RangeInclusive<usize> = 1..=512;
/// Allowed numbers of dimensions of an embedding.
pub(crate) const VECTOR: std::ops::RangeInclusive<usize> = 2..=20_000;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Returns the first `max_chars` characters of `text`.
pub(crate) fn cut(text: &str, max_chars: usize) -> &str {
    // A text has at most as many characters as bytes, so most texts need no count.
    if text.len() <= max_chars {
        return text;
    }
    text.char_indices()
        .nth(max_chars)
        .map_or(text, |(end, _)| &text[..end])
}

/// Returns why Arize would reject a record with this id and time, if it would.
pub(crate) fn rejection(id: &str, time: Timestamp, now: Timestamp) -> Option<String> {
    let chars = id.chars().count();
    if !ID_CHARS.contains(&chars) {
        let (min, max) = (ID_CHARS.start(), ID_CHARS.end());
        return Some(format!(
            "the id has {chars} characters; {min} to {max} are allowed"
        ));
    }
    let age = now.duration_since(time);
    if age > DAY * (5 * 365) || age < -(DAY * 365) {
        return Some(format!(
            "the time {time} is out of range: at most five years ago and one year ahead are allowed"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("éèà✅", 3), "éèà");
        assert_eq!(cut("éèà", 3), "éèà");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("", 5), "");
    }

    #[test]
    fn ids_and_times_out_of_range_are_rejected() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(rejection("a", now, now), None);
        assert_eq!(rejection(&"é".repeat(512), now, now), None);
        assert!(rejection("", now, now).unwrap().contains("0 characters"));
        assert!(rejection(&"a".repeat(513), now, now).unwrap().contains("513"));
        assert_eq!(rejection("a", at("2021-11-26T00:00:00Z"), now), None);
        assert!(rejection("a", at("2021-11-24T00:00:00Z"), now).is_some());
        assert_eq!(rejection("a", at("2027-11-24T00:00:00Z"), now), None);
        assert!(rejection("a", at("2027-11-25T00:00:00Z"), now).is_some());
    }
}
