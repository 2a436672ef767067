//! Prompt lookup: summaries copy, so the tokens that follow the same words in the article are a good guess at what comes
//! next (Saxena 2023, <https://github.com/apoorvumang/prompt-lookup-decoding>). Guesses are decoded together with the
//! last token, in one step; those that greedy search would have chosen anyway are kept, so that the result is the same.

/// Longest run of last tokens that is looked up in the text.
const LONGEST_MATCH: usize = 3;
/// Most drafts of a step.
const MOST_DRAFTS: usize = 10;
/// A step with more rows than this computes each further row at nearly full price: nothing is drafted then.
const MOST_ROWS: usize = 24;

/// Whether greedy requests are decoded with drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drafting {
    /// Where it pays: while few rows are decoded, and as long as drafts are accepted.
    #[default]
    Adaptive,
    /// Never.
    Off,
}

/// The drafts of one request.
#[derive(Debug)]
pub(super) struct Drafter {
    /// Drafts that the next step may have.
    length: usize,
    /// Steps until it is tried again after it didn't pay.
    pause: usize,
    /// Length of the next pause.
    next_pause: usize,
}

impl Default for Drafter {
    fn default() -> Self {
        Self {
            length: MOST_DRAFTS / 2,
            pause: 0,
            next_pause: 2,
        }
    }
}

impl Drafter {
    /// Guesses of what follows `tokens`, at most `room`, while `others` rows of other requests are in the step.
    pub(super) fn draft<'a>(
        &mut self,
        text: &'a [u32],
        tokens: &[u32],
        room: usize,
        others: usize,
    ) -> &'a [u32] {
        if self.pause > 0 {
            self.pause -= 1;
            return &[];
        }
        let room = room.min(self.length).min(MOST_ROWS.saturating_sub(others + 1));
        match room {
            0 => &[],
            room => look_up(text, tokens, room),
        }
    }

    /// Learns how many of `drafted` were right.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize) {
        match (drafted, accepted) {
            (0, _) => {}
            (_, 0) => {
                // Wrong from the first one on: copying has ended for now.
                (self.pause, self.next_pause) = (self.next_pause, (2 * self.next_pause).min(8));
                self.length = (self.length / 2).max(2);
            }
            (drafted, accepted) => {
                self.next_pause = 1;
                self.length = match accepted == drafted {
                    true => (2 * self.length).min(MOST_DRAFTS),
                    false => (accepted + 2).min(MOST_DRAFTS),
                };
            }
        }
    }
}

/// What follows the longest run of last tokens that the text has, at its first place; at most `room` tokens.
fn look_up<'a>(text: &'a [u32], tokens: &[u32], room: usize) -> &'a [u32] {
    for length in (1..=LONGEST_MATCH.min(tokens.len())).rev() {
        let last = &tokens[tokens.len() - length..];
        // The last place is before the end token, which nothing follows.
        let found = text.windows(length).position(|window| window == last);
        if let Some(place) = found {
            let next = place + length;
            let drafts = &text[next..text.len().min(next + room)];
            if !drafts.is_empty() {
                return drafts;
            }
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_is_followed() {
        let text = [5, 6, 7, 8, 6, 9, 10, 1];
        assert_eq!(look_up(&text, &[0, 6], 3), [7, 8, 6]);
        assert_eq!(look_up(&text, &[0, 8, 6], 3), [9, 10, 1]);
        assert!(look_up(&text, &[0, 3, 4], 3).is_empty());
        assert!(look_up(&text, &[0, 1], 3).is_empty());
    }

    #[test]
    fn what_does_not_pay_is_tried_less_and_less() {
        let text: Vec<u32> = (2..40).collect();
        let mut drafter = Drafter::default();
        let mut tries = 0;
        for _ in 0..60 {
            let drafted = drafter.draft(&text, &[0, 5], 20, 0).len();
            drafter.learn(drafted, 0);
            tries += usize::from(drafted > 0);
        }
        assert!((4..12).contains(&tries), "{tries}");
        for _ in 0..20 {
            let drafted = drafter.draft(&text, &[0, 5], 20, 0).len();
            drafter.learn(drafted, drafted);
        }
        assert_eq!(drafter.draft(&text, &[0, 5], 20, 0).len(), MOST_DRAFTS);
        assert_eq!(drafter.draft(&text, &[0, 5], 4, 0).len(), 4);
        assert_eq!(drafter.draft(&text, &[0, 5], 20, MOST_ROWS).len(), 0);
    }
}
