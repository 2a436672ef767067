//! A request that is being decoded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::draft::Drafter;
use super::queue::Ticket;
use super::slots::Slots;
use super::texts::Text;
use super::{Drafting, Event};
use crate::error::RowError;
use crate::generate::{Alternative, FinishReason, Generated, RowLogits, Search, Timings};
use crate::model::{Backend, PromptChunk};
use crate::tokenize::{TextTokenizer, Tokenize};

/// The decoder rows of the next step, of all requests.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Last token of each row; after [`Plan::finish`], the tokens of prompts too.
    pub(super) tokens: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) lengths: Vec<usize>,
    /// Number of rows per request.
    pub(super) rows: Vec<usize>,
    /// Chunks of prompts, which produce no logits.
    pub(super) prompts: Vec<PromptChunk>,
    prompt_tokens: Vec<u32>,
    /// Number of prompt tokens that the step can still read.
    room: usize,
}

impl Plan {
    /// Starts a step that reads up to `prompt_tokens` tokens of prompts.
    pub(super) fn start(&mut self, prompt_tokens: usize) {
        self.tokens.clear();
        self.slots.clear();
        self.lengths.clear();
        self.rows.clear();
        self.prompts.clear();
        self.prompt_tokens.clear();
        self.room = prompt_tokens;
    }

    /// Ends the planning.
    pub(super) fn finish(&mut self) {
        self.tokens.append(&mut self.prompt_tokens);
    }
}

/// State outside a request that decoding it needs.
pub(super) struct Context<'a> {
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) eos: &'a [u32],
    pub(super) vocabulary: usize,
    pub(super) drafting: Drafting,
}

/// A request in the decoder.
pub(super) struct Active<B: Backend> {
    pub(super) ticket: Ticket,
    pub(super) text: Text<B>,
    search: Search,
    /// What the sequence begins with.
    prompt: Vec<u32>,
    /// Per row, the KV cache slots of its tokens.
    lines: Vec<Vec<u32>>,
    /// All slots of the request.
    owned: Vec<u32>,
    /// This step's drafts and their slots.
    drafts: Vec<u32>,
    draft_slots: Vec<u32>,
    drafter: Drafter,
    encode: Duration,
    /// Whether cached encoder states were used.
    reused_encoder: bool,
    began: Instant,
    steps: usize,
    rows: usize,
    stopped: bool,
}

impl<B: Backend> Active<B> {
    /// Starts decoding.
    pub(super) fn new(
        ticket: Ticket,
        text: Text<B>,
        prompt: Vec<u32>,
        encode: Duration,
        reused_encoder: bool,
        context: &Context<'_>,
    ) -> Self {
        let search = Search::new(&ticket.params, &prompt, context.eos, ticket.seed);
        Self {
            lines: vec![Vec::new(); search.rows(context.vocabulary)],
            search,
            prompt,
            ticket,
            text,
            owned: Vec::new(),
            drafts: Vec::new(),
            draft_slots: Vec::new(),
            drafter: Drafter::default(),
            encode,
            reused_encoder,
            began: crate::clock::now(),
            steps: 0,
            rows: 0,
            stopped: false,
        }
    }

    /// Adds the request's rows to the next step. `others` is the minimum number of rows of other requests.
    pub(super) fn plan(
        &mut self,
        plan: &mut Plan,
        slots: &mut Slots,
        logits: &mut [RowLogits],
        others: usize,
        context: &Context<'_>,
    ) {
        if !self.plan_prompt(plan, slots) {
            self.rows = 0;
            plan.rows.push(0);
            return;
        }
        let first = plan.tokens.len();
        for (row, line) in self.lines.iter_mut().enumerate() {
            let slot = slots.take();
            self.owned.push(slot);
            line.push(slot);
            plan.tokens.push(self.search.last_token(row));
            plan.slots.extend_from_slice(line);
            plan.lengths.push(line.len());
        }
        self.drafts.clear();
        if let (Drafting::Adaptive, Some(room)) = (context.drafting, self.search.draft_room()) {
            let so_far = self.search.tokens_so_far();
            let drafts = self
                .drafter
                .draft(&self.ticket.ids, so_far, room.saturating_sub(1), others);
            self.drafts.extend_from_slice(drafts);
        }
        self.draft_slots.clear();
        for draft in &self.drafts {
            self.draft_slots.push(slots.take());
            plan.tokens.push(*draft);
            plan.slots.extend_from_slice(&self.lines[0]);
            plan.slots.extend_from_slice(&self.draft_slots);
            plan.lengths.push(self.lines[0].len() + self.draft_slots.len());
        }
        self.rows = self.lines.len() + self.drafts.len();
        plan.rows.push(self.rows);
        for (row, logits) in logits[first..first + self.rows].iter_mut().enumerate() {
            let drafts = &self.drafts[..row.min(self.drafts.len())];
            let (wanted, banned) = self.search.wanted(row, drafts, context.vocabulary);
            logits.begin(wanted, banned);
        }
    }

    /// Adds a chunk of the prompt, without its last token, to the next step. Returns whether the prompt is then read.
    ///
    /// The last token is an ordinary row, because it produces the first logits.
    fn plan_prompt(&mut self, plan: &mut Plan, slots: &mut Slots) -> bool {
        let (read, whole) = (self.lines[0].len(), self.prompt.len() - 1);
        if self.steps > 0 || read >= whole {
            return true;
        }
        let count = (whole - read).min(plan.room);
        if count == 0 {
            return false;
        }
        plan.room -= count;
        let taken: Vec<u32> = (0..count).map(|_| slots.take()).collect();
        self.owned.extend_from_slice(&taken);
        self.lines[0].extend_from_slice(&taken);
        plan.prompt_tokens
            .extend_from_slice(&self.prompt[read..read + count]);
        plan.prompts.push(PromptChunk {
            slots: self.lines[0].clone(),
            count,
        });
        if read + count < whole {
            return false;
        }
        // All beams begin with the same prompt.
        let line = self.lines[0].clone();
        self.lines.fill(line);
        true
    }

    /// Returns the request's rows in this step.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the request's rows in the next step, without drafts.
    pub(super) fn sure_rows(&self) -> usize {
        self.lines.len()
    }

    /// Consumes the logits of the request's rows. Returns whether it continues.
    pub(super) fn advance(
        &mut self,
        logits: &[RowLogits],
        slots: &mut Slots,
        context: &Context<'_>,
    ) -> Result<bool, RowError> {
        let step = self.steps;
        self.steps += 1;
        if step == 0 && self.prompt.len() > 1 {
            // Reading the prompt is this model's prefill.
            self.encode = self.began.elapsed();
            self.began = crate::clock::now();
        }
        match self.search.draft_room() {
            Some(_) => self.advance_greedy(logits, slots, context, step),
            None => Ok(self.advance_lines(logits, slots, step)? && !self.stops(context)?),
        }
    }

    /// Returns whether the stop rule ends the text here.
    fn stops(&mut self, context: &Context<'_>) -> Result<bool, RowError> {
        if let (Some(stop), 1) = (&self.ticket.stop, self.lines.len()) {
            let text = context.tokenizer.decode(self.search.tokens_so_far())?;
            self.stopped = stop.is_end(&text);
        }
        Ok(self.stopped)
    }

    /// Appends one token, plus one per accepted draft. The stop rule sees each token as if it had come alone, so
    /// neither drafts nor other requests affect where the text ends.
    fn advance_greedy(
        &mut self,
        logits: &[RowLogits],
        slots: &mut Slots,
        context: &Context<'_>,
        step: usize,
    ) -> Result<bool, RowError> {
        let mut accepted = 0;
        let goes_on = loop {
            finite(&logits[accepted..=accepted], step)?;
            if !self.search.advance_one(&logits[accepted]) || self.stops(context)? {
                break false;
            }
            match self.drafts.get(accepted) {
                Some(draft) if *draft == self.search.last_token(0) => {
                    // Move the slot between the lists at once, so that it is freed exactly once whatever happens next.
                    let slot = self.draft_slots.remove(0);
                    self.lines[0].push(slot);
                    self.owned.push(slot);
                    accepted += 1;
                }
                _ => break true,
            }
        };
        self.drafter.learn(self.drafts.len(), accepted);
        slots.release(self.draft_slots.drain(..));
        Ok(goes_on)
    }

    fn advance_lines(
        &mut self,
        logits: &[RowLogits],
        slots: &mut Slots,
        step: usize,
    ) -> Result<bool, RowError> {
        finite(logits, step)?;
        let Some(parents) = self.search.advance(logits) else {
            return Ok(false);
        };
        let same = parents.len() == self.lines.len() && parents.iter().zip(0..).all(|(a, b)| *a == b);
        if !same {
            self.lines = parents.iter().map(|parent| self.lines[*parent].clone()).collect();
            slots.sweep(&mut self.owned, self.lines.iter().map(Vec::as_slice));
        }
        Ok(true)
    }

    /// Sends the text so far to the subscribers.
    pub(super) fn send_progress(&self) {
        let subscribers = self.ticket.subscribers.lock();
        if !subscribers.is_empty() {
            let tokens: Arc<[u32]> = self.search.tokens_so_far().into();
            subscribers
                .iter()
                .for_each(|subscriber| subscriber.send(Event::Tokens(tokens.clone())));
        }
    }

    /// Frees the request's slots.
    pub(super) fn release(&mut self, slots: &mut Slots) {
        slots.release(self.owned.drain(..));
        slots.release(self.draft_slots.drain(..));
    }

    /// Returns the result.
    pub(super) fn result(&self, context: &Context<'_>) -> Result<Generated, RowError> {
        let results = self.search.results(self.ticket.params.num_return_sequences);
        let mut all = results
            .into_iter()
            .map(|(ids, score)| {
                let finish = match ids.last() {
                    Some(last) if context.eos.contains(last) => FinishReason::Eos,
                    _ if self.stopped => FinishReason::Stop,
                    _ => FinishReason::Length,
                };
                Ok(Alternative {
                    text: match finish {
                        FinishReason::Eos => context.tokenizer.decode(&ids)?,
                        // The end may have come in the middle of a character.
                        _ => context.tokenizer.decode_so_far(&ids)?,
                    },
                    finish,
                    ids,
                    score,
                })
            })
            .collect::<Result<Vec<_>, RowError>>()?
            .into_iter();
        let best = all
            .next()
            .ok_or_else(|| RowError::Compute("a search without a result".to_owned()))?;
        Ok(Generated {
            text: best.text,
            ids: best.ids,
            score: best.score,
            finish: best.finish,
            alternatives: all.collect(),
            seed: self.ticket.params.do_sample.then_some(self.ticket.seed),
            embedding: self.text.embedding.as_slice().into(),
            timings: Timings {
                wait: self
                    .began
                    .duration_since(self.ticket.submitted)
                    .saturating_sub(self.encode),
                encode: self.encode,
                decode: self.began.elapsed(),
            },
            steps: self.steps,
            reused_encoder: self.reused_encoder,
        })
    }
}

/// Fails if any logit of the rows is NaN, which makes the log-sum-exp NaN.
fn finite(logits: &[RowLogits], step: usize) -> Result<(), RowError> {
    match logits.iter().all(|row| row.log_sum_exp().is_finite()) {
        true => Ok(()),
        false => Err(RowError::NotANumber { step }),
    }
}

#[cfg(test)]
mod tests;
