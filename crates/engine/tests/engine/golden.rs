//! Compares small random models of every kind with transformers (`tests/golden/make_golden.py`).

use std::collections::BTreeMap;

use precis_engine::{EarlyStopping, GenerateRequest, Generated, GenerationParams};
use serde::Deserialize;
use serde_json::Value;

use crate::common::{alone, encoded, tiny, tiny_folder};

/// T5 1.0 in f32; T5 1.1 in bf16, two shards, two end tokens; mT5 and UMT5 in f16.
const KINDS: [&str; 4] = ["t5", "t5-v1_1", "mt5", "umt5"];

#[derive(Deserialize)]
struct Line {
    input_ids: Vec<u32>,
    last_state: Vec<f32>,
    first_logits: Vec<f32>,
    searches: Vec<Expected>,
}

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) params: BTreeMap<String, Value>,
    /// Excludes the start token.
    pub(crate) ids: Vec<u32>,
    pub(crate) score: f32,
}

fn lines(kind: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(tiny_folder(kind).join("golden.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Converts parameters from transformers' names. An unknown name is an error.
pub(crate) fn params(reference: &BTreeMap<String, Value>) -> GenerationParams {
    let mut params = GenerationParams::default();
    let (mut min_length, mut max_length) = (0, 64);
    let (mut min_new, mut max_new) = (None, None);
    for (name, value) in reference {
        let whole = || value.as_u64().unwrap() as usize;
        let number = || value.as_f64().unwrap();
        match name.as_str() {
            "num_beams" => params.num_beams = whole(),
            "min_length" => min_length = whole(),
            "max_length" => max_length = whole(),
            "min_new_tokens" => min_new = Some(whole()),
            "max_new_tokens" => max_new = Some(whole()),
            "length_penalty" => params.length_penalty = number(),
            "no_repeat_ngram_size" => params.no_repeat_ngram_size = whole(),
            "repetition_penalty" => params.repetition_penalty = number(),
            "num_return_sequences" => params.num_return_sequences = whole(),
            "temperature" => params.temperature = number(),
            "top_k" => params.top_k = whole(),
            "top_p" => params.top_p = number(),
            "do_sample" => params.do_sample = value.as_bool().unwrap(),
            "early_stopping" if value == "never" => params.early_stopping = EarlyStopping::Never,
            "early_stopping" => params.early_stopping = value.as_bool().unwrap().into(),
            _ => panic!("the reference has a parameter {name}"),
        }
    }
    params = params.with_lengths(min_length, max_length);
    params.min_new_tokens = min_new.unwrap_or(params.min_new_tokens);
    params.max_new_tokens = max_new.unwrap_or(params.max_new_tokens);
    params
}

pub(crate) fn furthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn encoder_states_and_first_logits_equal_transformers() {
    for kind in KINDS {
        let engine = tiny(kind);
        for line in lines(kind) {
            let input = encoded(&line.input_ids);
            let states = engine.encoder_states(&input).unwrap();
            let distance = furthest(states.last().unwrap(), &line.last_state);
            assert!(
                distance < 1e-4,
                "{kind}: states of {} tokens differ by {distance}",
                line.input_ids.len()
            );
            let distance = furthest(&engine.first_logits(&input).unwrap(), &line.first_logits);
            assert!(
                distance < 5e-4,
                "{kind}: logits of {} tokens differ by {distance}",
                line.input_ids.len()
            );
        }
    }
}

pub(crate) fn assert_same(found: &Generated, expected: &Expected, what: &str) {
    assert_eq!(found.ids, expected.ids, "{what}, {:?}", expected.params);
    // A negative length penalty multiplies the log-probability, and its rounding error too.
    let penalty = expected
        .params
        .get("length_penalty")
        .and_then(Value::as_f64)
        .unwrap_or(1.0);
    let factor = (expected.ids.len() as f64).powf(-penalty).max(1.0) as f32;
    let tolerance = 1e-4 * expected.score.abs().max(factor);
    let distance = (found.score - expected.score).abs();
    assert!(
        distance < tolerance,
        "{what}, {:?}: {} and not {}",
        expected.params,
        found.score,
        expected.score
    );
}

#[test]
fn one_batch_of_all_inputs_and_searches_equals_transformers() {
    for kind in KINDS {
        let engine = tiny(kind);
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for line in lines(kind) {
            for search in line.searches {
                let params = params(&search.params);
                requests.push(GenerateRequest {
                    encoded: encoded(&line.input_ids),
                    params,
                    stop: None,
                });
                expected.push((line.input_ids.len(), search));
            }
        }
        assert!(
            expected.len() > 100,
            "{kind} has only {} searches",
            expected.len()
        );
        for (result, (tokens, search)) in engine
            .generate_batch(&requests, &mut ())
            .into_iter()
            .zip(expected)
        {
            assert_same(&result.unwrap(), &search, &format!("{kind}, {tokens} tokens"));
        }
    }
}

/// Every search with one input of every kind: single requests are slower than a batch.
#[test]
fn single_requests_equal_transformers() {
    for kind in KINDS {
        let engine = tiny(kind);
        let lines = lines(kind);
        for (index, line) in lines.iter().enumerate() {
            for expected in line.searches.iter().skip(index).step_by(lines.len()) {
                let found = alone(&engine, &line.input_ids, &params(&expected.params)).unwrap();
                assert_same(
                    &found,
                    expected,
                    &format!("{kind}, {} tokens", line.input_ids.len()),
                );
            }
        }
    }
}
