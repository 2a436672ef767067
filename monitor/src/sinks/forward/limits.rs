//! What receivers take at most. Arize's limits are those that its SDK 7.x checks before it sends.

use jiff::{SignedDuration, Timestamp};

/// Most characters of a text, of the document or the summary.
pub(crate) const TEXT_CHARS: usize = 2_000_000;
/// Most characters of a tag.
pub(crate) const TAG_CHARS: usize = 20_000;
/// Length of an id, in characters.
pub(crate) const ID_CHARS: std::ops::RangeInclusive<usize> = 1..=512;
/// Numbers in a vector.
pub(crate) const VECTOR: std::ops::RangeInclusive<usize> = 2..=20_000;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The first `most` characters of `text`.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    // Bytes bound characters from above, so that most texts need no count.
    if text.len() <= most {
        return text;
    }
    text.char_indices()
        .nth(most)
        .map_or(text, |(end, _)| &text[..end])
}

/// Why Arize would refuse a record of this id and time.
pub(crate) fn refusal(id: &str, time: Timestamp, now: Timestamp) -> Option<String> {
    let chars = id.chars().count();
    if !ID_CHARS.contains(&chars) {
        let (least, most) = (ID_CHARS.start(), ID_CHARS.end());
        return Some(format!(
            "the id has {chars} characters; {least} to {most} are taken"
        ));
    }
    let age = now.duration_since(time);
    if age > DAY * (5 * 365) || age < -(DAY * 365) {
        return Some(format!(
            "the time {time} is not taken: it may be at most five years past and one year ahead"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("éèà✅", 3), "éèà");
        assert_eq!(cut("éèà", 3), "éèà");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("", 5), "");
    }

    #[test]
    fn ids_and_times_have_bounds() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(refusal("a", now, now), None);
        assert_eq!(refusal(&"é".repeat(512), now, now), None);
        assert!(refusal("", now, now).unwrap().contains("0 characters"));
        assert!(refusal(&"a".repeat(513), now, now).unwrap().contains("513"));
        assert_eq!(refusal("a", at("2021-11-26T00:00:00Z"), now), None);
        assert!(refusal("a", at("2021-11-24T00:00:00Z"), now).is_some());
        assert_eq!(refusal("a", at("2027-11-24T00:00:00Z"), now), None);
        assert!(refusal("a", at("2027-11-25T00:00:00Z"), now).is_some());
    }
}
