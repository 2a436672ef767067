//! Where a sentence ends, in English text.
//!
//! The decision is Punkt's (Kiss and Strunk 2006, *Unsupervised Multilingual Sentence Boundary Detection*), in
//! the form NLTK 3.10 gives it: a period ends a sentence unless its word is an abbreviation, an initial or an
//! ordinal; the next word's case, and what is known of it, may overrule either way. Punkt learns its word
//! lists from a corpus. The lists here are written by hand and far smaller, so that agreement is close and not
//! complete; `tests/sentences.rs` states and checks how close on a shared set of hard cases.
//!
//! [`Rules::Nltk`] is the default and follows NLTK's English model in the abbreviations that model lacks, too:
//! there `Gov. Brown`, `Sgt. Hill` and `No. 5` are split after the period. [`Rules::Extended`] knows those.
//!
//! Everything works on byte ranges of the input, in time linear in its length, and never panics.

mod english;
mod rules;
mod token;

use crate::space::is_space;
use std::ops::Range;
use token::is_closing;

/// Which abbreviations are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rules {
    /// Those that NLTK's English model treats as abbreviations: for results equal to NLTK's.
    #[default]
    Nltk,
    /// Also common ones that NLTK's model lacks, such as `Gov.`, `Sgt.`, `Rev.`, `Dept.`, `e.g.` and `No. 5`,
    /// and marks that belong together, such as `?!`, even at the end of a text: for better sentences.
    Extended,
}

/// The first sentence of a text, without the white space after it; empty for empty or blank text.
///
/// Like NLTK's, it keeps white space in front of the sentence and newlines inside it. Text without a sentence
/// end is one sentence.
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

/// All sentences of a text, in order; none for empty or blank text.
pub fn sentences(text: &str) -> Vec<&str> {
    Sentences::new(text, Rules::Nltk)
        .map(|range| &text[range])
        .collect()
}

/// The byte range of every sentence, in order and on character boundaries.
///
/// The ranges are not empty and don't overlap, and between and after them is nothing but white space.
pub fn sentence_ranges(text: &str, rules: Rules) -> Vec<Range<usize>> {
    Sentences::new(text, rules).collect()
}

/// Sentences found one by one, with closing quotes and brackets moved to the sentence they close.
struct Sentences<'a> {
    text: &'a str,
    slices: Slices<'a>,
    /// The slice to give out next, whose end is final only once the following slice is known.
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

/// Closing quotes and brackets at the start of a slice, with the white space after them, provided that white
/// space, a dash or the end of the slice follows them. The extended rules take further marks along, too.
fn closing_prefix(slice: &str, rules: Rules) -> Option<&str> {
    let extended = rules == Rules::Extended;
    let rest = slice.trim_start_matches(|c| is_closing(c) || extended && matches!(c, '.' | '?' | '!'));
    let marks = slice.len() - rest.len();
    let space = rest.len() - rest.trim_start().len();
    let closes = marks > 0 && (space > 0 || rest.is_empty() || rest.starts_with("--"));
    closes.then(|| &slice[..marks + space])
}

/// Slices between the positions that end a sentence.
struct Slices<'a> {
    text: &'a str,
    /// The length of the text without the white space at its end, as Python strips it.
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

/// A place where a sentence may end.
#[derive(Clone)]
struct Candidate {
    /// Position of the `.`, `?` or `!`, each of one byte.
    mark: usize,
    /// Where the next sentence would start.
    next_start: usize,
    /// The mark with the word before it and the word or sign after it: all that the decision looks at.
    context: Range<usize>,
}

/// Marks followed by white space and a word, or by a sign that can't be part of a word; the last of each word.
struct Candidates<'a> {
    text: &'a str,
    /// Where the search goes on.
    position: usize,
    /// The latest mark found, given out once the next one is known to belong to another word.
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

    /// The next mark with what follows it, whatever word it belongs to: mark, start of the next sentence.
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
            // ASCII white space alone ends the word here, and none at the very start of the text.
            let space = self.text[scan_from..mark].rfind([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
            let own_word = space.filter(|&at| at > 0).map(|at| scan_from + at + 1);
            let next = Candidate {
                mark,
                next_start,
                context: own_word.unwrap_or(word_start)..context_end(self.text, mark, next_start),
            };
            // Marks of one word overlap, and the later one stands for all of them.
            let apart = next.context.start >= scan_from;
            match self.pending.replace(next) {
                Some(finished) if apart => return Some(finished),
                _ => {}
            }
        }
    }
}

/// The end of the word that starts at `next_start`, or of the one sign after a mark that no space follows.
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
    fn closing_marks_go_with_the_sentence_they_close() {
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
