//! Maps the words of a summary, and those an article shares with it, to numbers.

use hashbrown::HashMap;
use std::borrow::Cow;

/// A word of the article that the summary lacks. Most words of an article are such, and no signal depends on which.
pub(crate) const ABSENT: u32 = u32::MAX;

/// A word of a text.
struct Word<'a> {
    text: &'a str,
    is_ascii: bool,
    /// A hash that ignores the case of ASCII letters.
    mark: u32,
}

/// Iterates over the words of a text, with a fast path for ASCII.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let bytes = self.rest.as_bytes();
        let mut at = 0;
        while let Some(length) = self.gap(bytes, at) {
            at += length;
        }
        let begin = at;
        let (mut is_ascii, mut mark) = (true, 0_u32);
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() {
                // The bit that lower-cases a letter; digits have it too.
                mark = mark.rotate_left(5) ^ u32::from(byte | 0x20);
                at += 1;
            } else if byte.is_ascii() {
                break;
            } else {
                let c = self.rest[at..].chars().next()?;
                if !c.is_alphanumeric() {
                    break;
                }
                is_ascii = false;
                at += c.len_utf8();
            }
        }
        let text = &self.rest[begin..at];
        self.rest = &self.rest[at..];
        (!text.is_empty()).then_some(Word { text, is_ascii, mark })
    }
}

impl Words<'_> {
    /// Returns the length of the character at `at` if it belongs to no word.
    fn gap(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let byte = bytes.get(at)?;
        if byte.is_ascii() {
            return (!byte.is_ascii_alphanumeric()).then_some(1);
        }
        let c = self.rest[at..].chars().next()?;
        (!c.is_alphanumeric()).then(|| c.len_utf8())
    }
}

impl Word<'_> {
    fn in_lower_case(&self) -> Cow<'_, str> {
        if !self.is_ascii {
            Cow::Owned(self.text.to_lowercase())
        } else if self.text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(self.text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(self.text)
        }
    }
}

/// The words of a summary and their numbers.
#[derive(Default)]
pub(crate) struct Vocabulary {
    numbers: HashMap<String, u32>,
    /// A Bloom filter over the last ten bits of the marks, which rules most other words out.
    marks: [u64; 16],
}

impl Vocabulary {
    /// Maps the words of the summary to numbers, counted from 0 in order of first use.
    pub(crate) fn intern(&mut self, text: &str) -> Vec<u32> {
        let number = |word: Word<'_>| {
            let word = word.in_lower_case();
            // In the form that lookups use: lower-casing turns U+212A (kelvin) into an ASCII k.
            let mut pure = Words { rest: &word }.filter(|same| same.is_ascii);
            if let Some(Word { mark, .. }) = pure.next() {
                self.marks[bit(mark).0] |= bit(mark).1;
            }
            let next = u32::try_from(self.numbers.len()).unwrap_or(ABSENT - 1);
            *self.numbers.entry_ref(&*word).or_insert(next)
        };
        Words { rest: text }.map(number).collect()
    }

    /// Maps the words of the article to the same numbers, or [`ABSENT`].
    pub(crate) fn look_up(&self, text: &str) -> Vec<u32> {
        let number = |word: Word<'_>| {
            if word.is_ascii && self.marks[bit(word.mark).0] & bit(word.mark).1 == 0 {
                return ABSENT;
            }
            let found = self.numbers.get(&*word.in_lower_case());
            found.copied().unwrap_or(ABSENT)
        };
        // An estimate: five letters and a space per word.
        let mut numbers = Vec::with_capacity(text.len() / 6);
        numbers.extend(Words { rest: text }.map(number));
        numbers
    }
}

/// Returns the position of a mark among 16 × 64 bits.
fn bit(mark: u32) -> (usize, u64) {
    ((mark >> 6) as usize % 16, 1_u64 << (mark % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_in_any_case() {
        for (ours, theirs) in [
            ("KM", "km"),
            ("\u{212a}m", "km"),
            ("km", "\u{212a}m"),
            ("\u{c9}t\u{e9}", "\u{e9}t\u{c9}"),
        ] {
            let mut vocabulary = Vocabulary::default();
            assert_eq!(vocabulary.intern(ours), [0]);
            assert_eq!(vocabulary.look_up(theirs), [0], "{ours} {theirs}");
        }
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let split = |text: &str| -> Vec<String> {
            let alphanumeric = text.split(|c: char| !c.is_alphanumeric());
            let words = alphanumeric.filter(|word| !word.is_empty());
            words.map(str::to_lowercase).collect()
        };
        for text in [
            "",
            "—",
            "a",
            "Ünder 3½ dogs—twö/Three",
            "  It's 5,000 km² (ΟΔΟΣ) \u{301}x\u{301}",
            "彼は去った。Then Zürich…",
        ] {
            let words: Vec<String> = Words { rest: text }
                .map(|word| word.in_lower_case().into_owned())
                .collect();
            assert_eq!(words, split(text), "{text:?}");
        }
    }
}
