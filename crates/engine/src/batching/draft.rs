//! Prompt lookup decoding: a summary copies phrases, so the tokens that follow the same words in the article are a good
//! draft (Saxena 2023, <https://github.com/apoorvumang/prompt-lookup-decoding>). One step verifies the drafts along
//! with the last token and keeps those that greedy search would have chosen, so the result does not change.

/// Longest suffix, in tokens, to look up in the text.
const LONGEST_MATCH: usize = 3;
/// Maximum drafts per step.
const MOST_DRAFTS: usize = 10;
/// With more rows than this a step is compute-bound, so drafts no longer come almost free. Drafting stops.
const MOST_ROWS: usize = 24;

/// Whether greedy requests use drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drafting {
    /// While few rows are decoded and drafts are accepted.
    #[default]
    Adaptive,
    /// Never.
    Off,
}

/// The drafting state of one request.
#[derive(Debug)]
pub(super) struct Drafter {
    /// Maximum drafts of the next step.
    length: usize,
    /// Steps until drafting resumes after rejected drafts.
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
    /// Returns the draft that follows `tokens`, at most `room` tokens. `others` is the number of rows of other requests
    /// in the step.
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

    /// Adapts to how many of the `drafted` tokens were accepted.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize) {
        match (drafted, accepted) {
            (0, _) => {}
            (_, 0) => {
                // All rejected: the summary has stopped copying for now.
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

/// Finds the longest suffix of `tokens` in the text, at its first occurrence, and returns up to `room` tokens that
/// follow it.
fn look_up<'a>(text: &'a [u32], tokens: &[u32], room: usize) -> &'a [u32] {
    for length in (1..=LONGEST_MATCH.min(tokens.len())).rev() {
        let last = &tokens[tokens.len() - length..];
        // Nothing follows the end token, so the last position cannot match.
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
    fn drafts_follow_the_longest_match() {
        let text = [5, 6, 7, 8, 6, 9, 10, 1];
        assert_eq!(look_up(&text, &[0, 6], 3), [7, 8, 6]);
        assert_eq!(look_up(&text, &[0, 8, 6], 3), [9, 10, 1]);
        assert!(look_up(&text, &[0, 3, 4], 3).is_empty());
        assert!(look_up(&text, &[0, 1], 3).is_empty());
    }

    #[test]
    fn rejected_drafts_lengthen_the_pause() {
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
