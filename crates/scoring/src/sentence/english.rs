//! Lists of English words: hand-written ones, and one that was counted in a corpus (`words/make.py`).
//!
//! None is taken from a trained model. Abbreviations at which NLTK splits sample sentences belong to the extended rules
//! only, and so do sentence starters at which it doesn't.

use super::Rules;
use super::token::NUMBER;
use std::collections::HashSet;
use std::sync::LazyLock;

type Words = LazyLock<HashSet<&'static str>>;

/// Abbreviations with a period, in lower case and without it.
static ABBREVIATIONS: Words = LazyLock::new(|| {
    set("
        mr mrs ms messrs dr prof sen rep reps gen col lt maj adm jr sr st ft
        co cos corp inc ltd bros vs ph.d w.va
        jan feb aug sep sept oct nov dec
        ala ariz calif colo conn fla ga ill kan ky mich minn nev okla ore pa tenn va vt wash wis
    ")
});

/// Abbreviations that NLTK's English model doesn't know.
static MORE_ABBREVIATIONS: Words = LazyLock::new(|| {
    set("
        gov govs sens sgt cpl pvt capt cmdr rev hon rt supt insp det pres mt ste
        dept dist est assn univ sec fig figs cf viz al etc approx ca blvd rd bn pp
        mar apr jun jul ark md mont neb tex wyo
    ")
});

/// Abbreviations made of letters that NLTK's English model doesn't know.
const MORE_LETTERS: [&str; 2] = ["e.g", "i.e"];

/// Words that often start a sentence. A capitalized one after an abbreviation ends the sentence.
static STARTERS: Words = LazyLock::new(|| {
    set("
        although among but despite even he her however i if in it many meanwhile most sales since so some such
        the there these they this though thus under when whether while yet
    ")
});

/// Sentence starters that NLTK's English model doesn't know.
static MORE_STARTERS: Words = LazyLock::new(|| {
    set("
        a after also an and as at because before by during each for from his how its nearly no of on once one
        only our that their those to until we what where who why with you
    ")
});

/// Common words that are hardly ever capitalized inside a sentence.
static LOWER_ONLY: Words = LazyLock::new(|| {
    let mut words = set("
        according additionally afterwards again almost already altogether anybody anyone anything
        apparently basically besides certainly clearly consequently critics doors earlier either
        else elsewhere especially eventually everybody everyone everything evidently finally fortunately
        frankly furthermore generally hence hopefully hundreds immediately incidentally indeed initially instead
        ironically largely lastly lately later likewise maybe moreover mostly namely naturally neither
        nevertheless nobody nonetheless normally nothing obviously occasionally officials often
        onlookers originally otherwise overall particularly perhaps possibly presumably previously
        prosecutors rarely rather recently regardless residents seldom several shortly similarly simply
        sometimes somebody someone somehow soon specifically subsequently suddenly surely surprisingly
        thereafter therefore thousands together typically ultimately undoubtedly unfortunately unless unlike
        usually virtually whatever whenever whereas wherever whoever witnesses worse
    ");
    let counted = include_str!("../../words/lower_only.txt");
    words.extend(counted.split_ascii_whitespace());
    words
});

/// Common words that are also capitalized inside sentences, in titles and names.
static BOTH_CASES: Words = LazyLock::new(|| {
    set("
        about above across against all another any anyway are around be been being below best better between
        beyond both can come could did do does doing done down every few first get give go good great
        had has have having here hers herself him himself home just last let life like little long look love
        made make man me men might more much must my near never new next nor not now off old or other out
        over people police right said same second see shall shares she should still take tell than then thing
        third three through today too toward two up upon us very want was way well went were which will within
        without women work world would yes your
    ")
});

fn set(words: &'static str) -> HashSet<&'static str> {
    words.split_ascii_whitespace().collect()
}

/// Titles, which always belong to the following name under the extended rules.
static TITLES: Words = LazyLock::new(|| {
    set("
        mr mrs ms messrs dr prof sen rep gen col lt maj adm gov sgt cpl pvt capt cmdr rev hon supt insp det pres
    ")
});

/// Words before a number, as in `No. 5`, under the extended rules.
const BEFORE_NUMBER: [&str; 6] = ["no", "nos", "vol", "vols", "ch", "op"];

/// How a word is usually capitalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Only at the start of a sentence.
    LowerOnly,
    /// At the start and inside of sentences.
    Both,
    /// Unknown: most names, and rare words.
    Unknown,
}

impl Evidence {
    /// Returns whether the word is known to occur in lower case.
    pub(super) fn seen_lower(self) -> bool {
        self != Self::Unknown
    }
}

/// Returns what is known about a word in lower case.
pub(super) fn evidence(word: &str) -> Evidence {
    // What was written by hand comes before what was counted.
    if is_starter(word, Rules::Extended) || BOTH_CASES.contains(word) {
        Evidence::Both
    } else if LOWER_ONLY.contains(word) {
        Evidence::LowerOnly
    } else {
        Evidence::Unknown
    }
}

/// Returns whether a word, in lower case and without its period, is an abbreviation.
pub(super) fn is_abbreviation(word: &str, rules: Rules) -> bool {
    let extended = rules == Rules::Extended;
    if MORE_LETTERS.contains(&word) {
        return extended;
    }
    ABBREVIATIONS.contains(word) || extended && MORE_ABBREVIATIONS.contains(word) || is_letters(word)
}

/// Returns whether a word is single letters separated by periods, such as `u.s`, or one letter that is rarely a word of
/// its own.
fn is_letters(word: &str) -> bool {
    let mut parts = word.split('.');
    let letters = parts.all(|part| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next().is_none()
    });
    letters && !matches!(word, "a" | "b" | "i" | "o")
}

/// Returns whether a word often starts a sentence.
pub(super) fn is_starter(word: &str, rules: Rules) -> bool {
    STARTERS.contains(word) || rules == Rules::Extended && MORE_STARTERS.contains(word)
}

/// Returns whether two words belong together across a period: `No. 5`, `Mr. Still`.
pub(super) fn is_collocation(word: &str, next: &str, next_upper: bool, rules: Rules) -> bool {
    rules == Rules::Extended
        && (next == NUMBER && BEFORE_NUMBER.contains(&word) || next_upper && TITLES.contains(word))
}
