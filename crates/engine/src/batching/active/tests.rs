//! Slot accounting, drafts and stop rules of one request.

use super::*;
use crate::batching::queue::Cost;
use crate::config::ModelConfig;
use crate::generate::{GenerationParams, StopRule};
use crate::kernels::Isa;
use crate::model::{Cpu, Prefilled};
use crate::source::{ChatFiles, TokenizerFile};
use crate::tokenize::Prompt;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/t5/");
const VOCABULARY: usize = 250;

fn tokenizer() -> TextTokenizer {
    let read = |name: &str| std::fs::read(format!("{FOLDER}{name}")).unwrap();
    let config = ModelConfig::from_json(&read("config.json")).unwrap();
    let file = TokenizerFile::Json(read("tokenizer.json").into());
    TextTokenizer::new(&file, &ChatFiles::default(), &config, &Prompt::default(), 64).unwrap()
}

/// A greedy request for a text that repeats itself, so that its first token already has a draft.
fn ticket(stop: Option<StopRule>) -> Ticket {
    Ticket {
        ids: [7, 8, 9, 10, 7, 8, 9, 10, 1].into(),
        params: GenerationParams {
            num_beams: 1,
            max_new_tokens: 20,
            ..Default::default()
        },
        seed: 0,
        stop,
        joinable: None,
        subscribers: Arc::default(),
        cost: Cost::default(),
        submitted: crate::clock::now(),
        passed: 0,
    }
}

/// Decodes with logits that peak at `next(step, row)`. `None` makes the row NaN.
fn decode(
    stop: Option<StopRule>,
    drafting: Drafting,
    next: impl Fn(usize, usize) -> Option<u32>,
) -> (Result<Vec<u32>, RowError>, Slots) {
    let tokenizer = tokenizer();
    let context = Context {
        tokenizer: &tokenizer,
        eos: &[1],
        vocabulary: VOCABULARY,
        drafting,
    };
    let text = Arc::new(Prefilled::<Cpu>::nothing());
    let mut active = Active::new(ticket(stop), text, vec![0], Duration::ZERO, false, &context);
    let mut slots = Slots::default();
    let mut plan = Plan::default();
    let mut logits: Vec<RowLogits> = (0..16).map(|_| RowLogits::new(Isa::detect())).collect();
    let mut written = 0;
    let ended = loop {
        plan.start(0);
        active.plan(&mut plan, &mut slots, &mut logits, 0, &context);
        for (row, logits) in logits.iter_mut().enumerate().take(active.rows()) {
            let mut block = vec![0f32; VOCABULARY];
            match next(written, row) {
                Some(token) => block[token as usize] = 20.0,
                None => block.fill(f32::NAN),
            }
            logits.feed(0, &block);
        }
        let rows = active.rows();
        match active.advance(&logits[..rows], &mut slots, &context) {
            Ok(true) => written = active.search.tokens_so_far().len(),
            Ok(false) => break Ok(active.search.tokens_so_far().to_vec()),
            Err(error) => break Err(error),
        }
    };
    active.release(&mut slots);
    (ended, slots)
}

/// The repeating text: 7, 8, 9, 10, 7, …
fn copied(place: usize) -> u32 {
    7 + place as u32 % 4
}

#[test]
fn drafts_do_not_change_results_and_free_their_slots() {
    for drafting in [Drafting::Adaptive, Drafting::Off] {
        let (ended, slots) = decode(None, drafting, |written, row| Some(copied(written + row)));
        assert_eq!(ended.unwrap(), (0..20).map(copied).collect::<Vec<_>>());
        assert_eq!(slots.in_use(), 0);
    }
}

#[test]
fn a_nan_row_frees_each_slot_once() {
    // The preceding draft is accepted, so its slot already belongs to the request.
    let (ended, slots) = decode(None, Drafting::Adaptive, |written, row| {
        (written == 0 || row < 2).then(|| copied(written + row))
    });
    assert!(matches!(ended, Err(RowError::NotANumber { .. })), "{ended:?}");
    assert_eq!(slots.in_use(), 0);
}

#[test]
fn a_stop_rule_ends_at_the_same_token_with_and_without_drafts() {
    let ends: Vec<Vec<u32>> = [Drafting::Adaptive, Drafting::Off]
        .into_iter()
        .map(|drafting| {
            let asked = std::sync::atomic::AtomicUsize::new(0);
            // True at the sixth call, between two steps with drafts.
            let rule = StopRule::new(move |_| asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 5);
            let (ended, slots) = decode(Some(rule), drafting, |written, row| Some(copied(written + row)));
            assert_eq!(slots.in_use(), 0);
            ended.unwrap()
        })
        .collect();
    assert_eq!(ends[0].len(), 6);
    assert_eq!(ends[0], ends[1]);
}
