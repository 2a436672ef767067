//! Compares the embedded model with `reference.jsonl`: transformers' output with the same weights.

use std::collections::BTreeMap;

use precis_engine::{FinishReason, GenerateRequest, Generated};
use serde::Deserialize;
use serde_json::Value;

use crate::common::{alone, encoded, mini, mini_folder};
use crate::golden::params;

#[derive(Deserialize)]
struct Case {
    id: String,
    input: String,
    n_tokens_before_truncation: usize,
    input_ids: Vec<u32>,
    encoder: EncoderStatistics,
    first_step_top5: Vec<TopLogit>,
    /// `greedy`, `beam4`, `beam8`: the searches that the file contains.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct EncoderStatistics {
    mean: f64,
    abs_mean: f64,
    first8_of_pos0: Vec<f32>,
    first8_of_last: Vec<f32>,
    mean_over_positions_first8: Vec<f32>,
}

#[derive(Deserialize)]
struct TopLogit {
    id: u32,
    logit: f32,
}

#[derive(Deserialize)]
struct Output {
    params: BTreeMap<String, Value>,
    /// Includes the start token.
    ids: Vec<u32>,
    text: String,
    score: Option<f32>,
}

/// Reads the reference cases.
fn cases() -> Vec<Case> {
    let path = mini_folder().join("reference.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Case> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    let has = |name: &str| {
        cases
            .iter()
            .all(|case| case.outputs().any(|(search, _)| search == name))
    };
    assert!(has("greedy") && has("beam4"));
    cases
}

impl Case {
    /// Returns the case's searches by name.
    fn outputs(&self) -> impl Iterator<Item = (&str, Output)> {
        let searches = self.rest.iter().filter(|(_, value)| value.get("ids").is_some());
        searches.map(|(name, value)| (name.as_str(), serde_json::from_value(value.clone()).unwrap()))
    }
}

fn close(found: &[f32], expected: &[f32], tolerance: f32) -> bool {
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn tokenization_equals_transformers() {
    let engine = mini();
    for case in cases() {
        let encoded = engine.tokenize(&case.input).unwrap();
        assert_eq!(encoded.ids, case.input_ids, "{}", case.id);
        assert_eq!(encoded.tokens, case.n_tokens_before_truncation, "{}", case.id);
        assert_eq!(
            encoded.truncated_tokens,
            case.n_tokens_before_truncation - case.input_ids.len(),
            "{}",
            case.id
        );
    }
}

#[test]
fn encoder_states_and_first_logits_equal_transformers() {
    let engine = mini();
    for case in cases() {
        let input = encoded(&case.input_ids);
        let states = engine.encoder_states(&input).unwrap();
        let all = || states.iter().flatten().map(|value| f64::from(*value));
        let count = all().count() as f64;
        let mean = all().sum::<f64>() / count;
        let abs_mean = all().map(f64::abs).sum::<f64>() / count;
        assert!(
            (mean - case.encoder.mean).abs() < 1e-5,
            "{}: {mean} {}",
            case.id,
            case.encoder.mean
        );
        assert!((abs_mean - case.encoder.abs_mean).abs() < 1e-5, "{}", case.id);
        assert!(
            close(&states[0][..8], &case.encoder.first8_of_pos0, 1e-4),
            "{}",
            case.id
        );
        assert!(
            close(&states[states.len() - 1][..8], &case.encoder.first8_of_last, 1e-4),
            "{}",
            case.id
        );
        let embedding = engine.embed(&input).unwrap();
        assert!(
            close(&embedding[..8], &case.encoder.mean_over_positions_first8, 1e-4),
            "{}",
            case.id
        );

        let logits = engine.first_logits(&input).unwrap();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        for (found, expected) in order.iter().zip(&case.first_step_top5) {
            assert_eq!(*found, expected.id as usize, "{}", case.id);
            assert!(
                (logits[*found] - expected.logit).abs() < 1e-3,
                "{}: {}",
                case.id,
                logits[*found]
            );
        }
    }
}

/// Compares a result with the reference and returns the difference.
fn difference(what: &str, output: &Output, generated: &Generated) -> Option<String> {
    assert_eq!(output.ids[0], 0);
    if generated.ids != output.ids[1..] {
        return Some(format!("{what}: {:?} and not {:?}", generated.text, output.text));
    }
    assert_eq!(generated.text, output.text.trim(), "{what}");
    assert_eq!(
        generated.finish == FinishReason::Eos,
        output.ids.last() == Some(&1),
        "{what}"
    );
    let score = output
        .score
        .filter(|score| (generated.score - score).abs() > 1e-4);
    score.map(|score| format!("{what}: score {} and not {score}", generated.score))
}

#[test]
fn batches_of_all_searches_equal_transformers() {
    let engine = mini();
    let mut searches = BTreeMap::<String, usize>::new();
    let mut differences = Vec::new();
    for chunk in cases().chunks(16) {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for case in chunk {
            for (name, output) in case.outputs() {
                *searches.entry(name.to_owned()).or_default() += 1;
                requests.push(GenerateRequest {
                    encoded: encoded(&case.input_ids),
                    params: params(&output.params),
                    stop: None,
                });
                expected.push((format!("{} {name}", case.id), output));
            }
        }
        for (result, (what, output)) in engine
            .generate_batch(&requests, &mut ())
            .into_iter()
            .zip(expected)
        {
            differences.extend(difference(&what, &output, &result.unwrap()));
        }
    }
    assert!(
        differences.is_empty(),
        "of {searches:?}:\n{}",
        differences.join("\n")
    );
}

/// Every fourth text: single requests are slower than a batch.
#[test]
fn single_requests_equal_transformers() {
    let engine = mini();
    for case in cases().iter().step_by(4) {
        for (name, output) in case.outputs() {
            let generated = alone(&engine, &case.input_ids, &params(&output.params)).unwrap();
            assert_eq!(
                difference(&format!("{} {name}", case.id), &output, &generated),
                None
            );
        }
    }
}
