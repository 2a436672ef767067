//! Punkt's decision for one candidate, in the order of Kiss and Strunk 2006.

use super::Rules;
use super::english::{self, Evidence};
use super::token::{NUMBER, Token, Words};

/// Returns whether a context contains a sentence end before its last word.
pub(super) fn has_break(context: &str, rules: Rules) -> bool {
    let mut previous: Option<Token<'_>> = None;
    for word in Words::new(context) {
        let mut token = Token::new(word);
        judge_alone(&mut token, rules);
        if let Some(mut before) = previous.take() {
            judge_with_next(&mut before, &token, rules);
            if before.sentence_break {
                return true;
            }
        }
        previous = Some(token);
    }
    false
}

/// First pass: decides by the word alone (section 3 of the paper).
fn judge_alone(token: &mut Token<'_>, rules: Rules) {
    if matches!(token.text, "." | "?" | "!") {
        token.sentence_break = true;
    } else if token.is_dots() {
        token.ellipsis = true;
    } else if token.ends_in_period() && !token.text.ends_with("..") {
        let word = token.text[..token.text.len() - 1].to_lowercase();
        let last_part = word.rsplit('-').next().unwrap_or(&word);
        token.abbreviation =
            english::is_abbreviation(&word, rules) || english::is_abbreviation(last_part, rules);
        token.sentence_break = !token.abbreviation;
    }
}

/// Second pass: considers the next word (section 4).
fn judge_with_next(token: &mut Token<'_>, next: &Token<'_>, rules: Rules) {
    if !token.ends_in_period() {
        return;
    }
    let word = token.type_without_period();
    let next_word = next.type_for_context();
    if english::is_collocation(&word, &next_word, next.starts_upper(), rules) {
        token.sentence_break = false;
        return;
    }
    let initial = token.is_initial();
    if (token.abbreviation || token.ellipsis) && !initial {
        let starter = next.starts_upper() && english::is_starter(&next_word, rules);
        if starts_sentence(next, &next_word) == Some(true) || starter {
            token.sentence_break = true;
            return;
        }
    }
    if initial || word == NUMBER {
        let name = || initial && next.starts_upper() && !english::evidence(&next_word).seen_lower();
        match starts_sentence(next, &next_word) {
            Some(false) => token.sentence_break = false,
            None if name() => token.sentence_break = false,
            _ => {}
        }
    }
}

/// Returns whether a word's case, compared with its usual one, shows that it starts a sentence.
fn starts_sentence(token: &Token<'_>, word: &str) -> Option<bool> {
    if matches!(token.text, ";" | ":" | "," | "." | "!" | "?") || token.starts_lower() {
        // No known word starts sentences in lower case.
        return Some(false);
    }
    let lower_only = token.starts_upper() && english::evidence(word) == Evidence::LowerOnly;
    lower_only.then_some(true)
}
