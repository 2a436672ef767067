//! Sentence boundaries in English text.
//!
//! Follows Punkt (Kiss and Strunk 2006, *Unsupervised Multilingual Sentence Boundary Detection*) as NLTK 3.10
//! implements it: a period ends a sentence unless its word is an abbreviation, an initial or an ordinal. The case of
//! the next word, and what is known about that word, may overrule either way. Punkt learns its word lists from a
//! corpus. The lists here are hand-written or counted in a smaller corpus, so agreement is close but not complete:
//! `tests/sentences.rs` measures it on a shared set of hard cases and on 5,200 sentence ends of ordinary texts, of which
//! 14 differ.
//!
//! [`Rules::Nltk`], the default, also lacks the abbreviations that NLTK's English model lacks: it splits `Gov. Brown`,
//! `Sgt. Hill` and `No. 5` after the period. [`Rules::Extended`] knows those.
//!
//! All functions work on byte ranges of the input, take linear time, and never panic.

mod english;
mod rules;
mod token;

use crate::space::is_space;
use std::ops::Range;
use token::is_closing;

/// The known abbreviations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rules {
    /// Those of NLTK's English model, for results equal to NLTK's.
    #[default]
    Nltk,
    /// Also common ones that NLTK lacks, such as `Gov.`, `Sgt.`, `Rev.`, `Dept.`, `e.g.` and `No. 5`. Also keeps marks
    /// such as `?!` together at the end of a text. For better sentences.
    Extended,
}

/// Returns the first sentence without trailing white space, or an empty string for blank text.
///
/// Like NLTK, keeps leading white space and newlines inside the sentence. Text without a sentence end is one sentence.
///
/// ```
/// use precis_scoring::first_sentence;
///
/// assert_eq!(first_sentence("It grew 3.2% to 77,410.5. Then it fell."), "It grew 3.2% to 77,410.5.");
/// assert_eq!(first_sentence("He said \u{201c}stop.\u{201d} Then he ran."), "He said \u{201c}stop.\u{201d}");
/// assert_eq!(first_sentence(""), "");
/// ```
pub fn first_sentence(text: &str) -> &str {
    first_sentence_by(text, Rules::Nltk)
}

/// The first sentence of a text under given rules; see [`first_sentence`].
///
/// ```
/// use precis_scoring::sentence::{Rules, first_sentence_by};
///
/// assert_eq!(first_sentence_by("Sgt. Hill spoke. He left.", Rules::Nltk), "Sgt.");
/// assert_eq!(first_sentence_by("Sgt. Hill spoke. He left.", Rules::Extended), "Sgt. Hill spoke.");
/// ```
pub fn first_sentence_by(text: &str, rules: Rules) -> &str {
    Sentences::new(text, rules)
        .next()
        .map_or("", |range| &text[range])
}

/// Returns all sentences in order; none for blank text.
pub fn sentences(text: &str) -> Vec<&str> {
    Sentences::new(text, Rules::Nltk)
        .map(|range| &text[range])
        .collect()
}

/// Returns the byte range of every sentence, in order and on character boundaries.
///
/// Ranges are not empty and do not overlap. Between and after them is only white space.
pub fn sentence_ranges(text: &str, rules: Rules) -> Vec<Range<usize>> {
    Sentences::new(text, rules).collect()
}

/// Iterates over sentences, and moves closing quotes and brackets to the sentence they close.
struct Sentences<'a> {
    text: &'a str,
    slices: Slices<'a>,
    /// The next slice to return. Its end is final once the following slice is known.
    current: Option<Range<usize>>,
}

impl<'a> Sentences<'a> {
    fn new(text: &'a str, rules: Rules) -> Self {
        let mut slices = Slices::new(text, rules);
        let current = slices.next();
        Self {
            text,
            slices,
            current,
        }
    }
}

impl Iterator for Sentences<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let mut sentence = self.current.take()?;
            if let Some(mut following) = self.slices.next() {
                if let Some(closing) = closing_prefix(&self.text[following.clone()], self.slices.rules) {
                    sentence.end = following.start + closing.trim_end().len();
                    following.start += closing.len();
                }
                self.current = Some(following);
            }
            if !sentence.is_empty() {
                return Some(sentence);
            }
        }
    }
}

/// Returns the closing quotes and brackets at the start of a slice, with the white space after them. White space, a
/// dash or the end of the slice must follow. The extended rules include further marks.
fn closing_prefix(slice: &str, rules: Rules) -> Option<&str> {
    let extended = rules == Rules::Extended;
    let rest = slice.trim_start_matches(|c| is_closing(c) || extended && matches!(c, '.' | '?' | '!'));
    let marks = slice.len() - rest.len();
    let space = rest.len() - rest.trim_start().len();
    let closes = marks > 0 && (space > 0 || rest.is_empty() || rest.starts_with("--"));
    closes.then(|| &slice[..marks + space])
}

/// Iterates over the slices between sentence ends.
struct Slices<'a> {
    text: &'a str,
    /// Length of the text without trailing white space, as Python strips it.
    end: usize,
    rules: Rules,
    candidates: Candidates<'a>,
    last_break: usize,
    done: bool,
}

impl<'a> Slices<'a> {
    fn new(text: &'a str, rules: Rules) -> Self {
        let end = text.trim_end_matches(is_space).len();
        Self {
            text,
            end,
            rules,
            candidates: Candidates::new(text),
            last_break: 0,
            done: false,
        }
    }
}

impl Iterator for Slices<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        for candidate in self.candidates.by_ref() {
            if rules::has_break(&self.text[candidate.context.clone()], self.rules) {
                let slice = self.last_break..candidate.mark + 1;
                self.last_break = candidate.next_start;
                return Some(slice);
            }
        }
        (!std::mem::replace(&mut self.done, true)).then(|| self.last_break..self.end.max(self.last_break))
    }
}

/// A possible sentence end.
#[derive(Clone)]
struct Candidate {
    /// Position of the `.`, `?` or `!`, each of one byte.
    mark: usize,
    /// Start of the next sentence.
    next_start: usize,
    /// The mark with the preceding word and the following word or sign: everything the decision depends on.
    context: Range<usize>,
}

/// Iterates over marks followed by white space and a word, or by a sign that cannot be part of a word. Yields the last
/// mark of each word.
struct Candidates<'a> {
    text: &'a str,
    /// Position at which the search continues.
    position: usize,
    /// The last mark found, yielded once the next one is known to belong to another word.
    pending: Option<Candidate>,
}

impl<'a> Candidates<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            position: 0,
            pending: None,
        }
    }

    /// Returns the next mark and the start of the next sentence, whatever word the mark belongs to.
    fn next_mark(&mut self) -> Option<(usize, usize)> {
        loop {
            let rest = self.text.get(self.position..)?;
            let mark = self.position + rest.find(['.', '?', '!'])?;
            self.position = mark + 1;
            let after = &self.text[mark + 1..];
            let word = after.trim_start();
            if word.len() < after.len() && !word.is_empty() {
                return Some((mark, self.text.len() - word.len()));
            }
            if after.starts_with(token::ends_word) {
                return Some((mark, mark + 1));
            }
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        loop {
            let Some((mark, next_start)) = self.next_mark() else {
                return self.pending.take();
            };
            let (word_start, scan_from) = match &self.pending {
                Some(previous) => (previous.context.start, previous.mark),
                None => (0, 0),
            };
            // Only ASCII white space ends a word here, and none at the very start of the text.
            let space = self.text[scan_from..mark].rfind([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
            let own_word = space.filter(|&at| at > 0).map(|at| scan_from + at + 1);
            let next = Candidate {
                mark,
                next_start,
                context: own_word.unwrap_or(word_start)..context_end(self.text, mark, next_start),
            };
            // Contexts of marks in one word overlap, and the last mark stands for all of them.
            let apart = next.context.start >= scan_from;
            match self.pending.replace(next) {
                Some(finished) if apart => return Some(finished),
                _ => {}
            }
        }
    }
}

/// Returns the end of the word that starts at `next_start`, or of the sign that directly follows the mark.
fn context_end(text: &str, mark: usize, next_start: usize) -> usize {
    let rest = &text[next_start..];
    let length = if next_start == mark + 1 {
        rest.chars().next().map_or(0, char::len_utf8)
    } else {
        rest.find(char::is_whitespace).unwrap_or(rest.len())
    };
    next_start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_marks_stay_with_their_sentence() {
        assert_eq!(closing_prefix("\" Then", Rules::Nltk), Some("\" "));
        assert_eq!(closing_prefix("\u{201d}) He", Rules::Nltk), Some("\u{201d}) "));
        assert_eq!(closing_prefix("\"--then", Rules::Nltk), Some("\""));
        assert_eq!(closing_prefix(")", Rules::Nltk), Some(")"));
        assert_eq!(closing_prefix("\"Me\"", Rules::Nltk), None);
        assert_eq!(closing_prefix("plain", Rules::Nltk), None);
        assert_eq!(closing_prefix("!\" So", Rules::Nltk), None);
        assert_eq!(closing_prefix("!\" So", Rules::Extended), Some("!\" "));
    }

    #[test]
    fn blank_text_has_no_sentence() {
        for text in ["", " ", "\n\t ", "\u{1c}", "\u{a0}"] {
            assert_eq!(first_sentence(text), "");
            assert!(sentences(text).is_empty());
        }
    }

    #[test]
    fn runs_of_marks_take_linear_time() {
        for unit in [
            ".", "?", "? ", ". ", "a.\u{a0}", ".\"", "--", "!)", "U.S. ", "\u{201d}",
        ] {
            let text = unit.repeat(40_000);
            let total: usize = sentences(&text).iter().map(|sentence| sentence.len()).sum();
            assert!(total <= text.len());
        }
    }
}
