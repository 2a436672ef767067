//! Compares small random decoder-only models with transformers (`tests/golden/make_causal.py`).

use precis_engine::{
    Engine, EngineOptions, FinishReason, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice,
    RowError,
};
use serde::Deserialize;

use crate::common::{alone, encoded, tiny, tiny_folder};
use crate::golden::{Expected, assert_same, furthest, params};

/// Llama with a tied head, in f32; Llama 3 with its RoPE scaling, biases and two end tokens, in bf16; Mistral with
/// windows, in f16; Qwen2 with YaRN; Qwen3; Gemma 3 with two kinds of layers.
const KINDS: [&str; 6] = ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3"];

#[derive(Deserialize)]
struct Line {
    length: usize,
    seed: u32,
    last_state: Option<Vec<f32>>,
    first_logits: Option<Vec<f32>>,
    searches: Vec<Expected>,
}

fn lines(kind: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(tiny_folder(kind).join("golden.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns pseudo-random ids, the same as the script's.
fn prompt(length: usize, seed: u32) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        3 + (state >> 16) % 290
    };
    (0..length).map(|_| next()).collect()
}

fn load(kind: &str, options: EngineOptions) -> Engine {
    let options = EngineOptions {
        device: "cpu".parse().unwrap(),
        threads: 1,
        ..options
    };
    Engine::load(&ModelSource::Path(tiny_folder(kind)), &options).unwrap()
}

#[test]
fn hidden_states_and_first_logits_equal_transformers() {
    for kind in KINDS {
        let engine = tiny(kind);
        let mut compared = 0;
        for line in lines(kind) {
            let (Some(state), Some(logits)) = (&line.last_state, &line.first_logits) else {
                continue;
            };
            let input = encoded(&prompt(line.length, line.seed));
            let states = engine.encoder_states(&input).unwrap();
            let distance = furthest(states.last().unwrap(), state);
            assert!(
                distance < 2e-4,
                "{kind}: states of {} tokens differ by {distance}",
                line.length
            );
            let distance = furthest(&engine.first_logits(&input).unwrap(), logits);
            assert!(
                distance < 1e-3,
                "{kind}: logits of {} tokens differ by {distance}",
                line.length
            );
            compared += 1;
        }
        assert!(compared > 10, "{kind}: {compared}");
    }
}

/// Long prompts are read in chunks beside rows that decode, and compete for the room of a step.
#[test]
fn one_batch_of_all_prompts_and_searches_equals_transformers() {
    for kind in KINDS {
        let engine = tiny(kind);
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        let mut prompts = 0;
        for line in lines(kind) {
            prompts += 1;
            for search in line.searches {
                let input = encoded(&prompt(line.length, line.seed));
                requests.push(GenerateRequest::new(input, params(&search.params)));
                expected.push((line.length, search));
            }
        }
        assert!(
            prompts >= 200 && expected.len() > 350,
            "{kind}: {} searches",
            expected.len()
        );
        let results = engine.generate_batch(&requests, &mut ());
        for (result, (tokens, search)) in results.into_iter().zip(expected) {
            assert_same(&result.unwrap(), &search, &format!("{kind}, {tokens} tokens"));
        }
    }
}

#[test]
fn single_requests_equal_transformers() {
    for kind in KINDS {
        let engine = tiny(kind);
        for line in lines(kind).iter().skip(3).step_by(13) {
            for expected in &line.searches {
                let found = alone(
                    &engine,
                    &prompt(line.length, line.seed),
                    &params(&expected.params),
                )
                .unwrap();
                assert_same(&found, expected, &format!("{kind}, {} tokens", line.length));
            }
        }
    }
}

#[test]
fn candles_operations_equal_transformers() {
    for kind in KINDS {
        let reference = EngineOptions {
            reference: true,
            ..Default::default()
        };
        let engine = load(kind, reference);
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for line in lines(kind).into_iter().skip(5).step_by(19) {
            for search in line.searches {
                let input = encoded(&prompt(line.length, line.seed));
                requests.push(GenerateRequest::new(input, params(&search.params)));
                expected.push((line.length, search));
            }
        }
        let results = engine.generate_batch(&requests, &mut ());
        for (result, (tokens, search)) in results.into_iter().zip(expected) {
            assert_same(
                &result.unwrap(),
                &search,
                &format!("{kind} by candle, {tokens} tokens"),
            );
        }
    }
}

#[test]
fn a_result_does_not_depend_on_its_batch_in_any_precision() {
    for precision in ["f32", "bf16", "int8"] {
        let precision: PrecisionChoice = precision.parse().unwrap();
        for kind in ["llama", "gemma3"] {
            let options = EngineOptions {
                precision,
                ..Default::default()
            };
            let engine = load(kind, options);
            let requests: Vec<GenerateRequest> = (0..24)
                .map(|index| {
                    let params = GenerationParams {
                        num_beams: 1 + index % 3,
                        do_sample: index % 4 == 1,
                        seed: Some(7),
                        max_new_tokens: 12,
                        ..Default::default()
                    };
                    GenerateRequest::new(encoded(&prompt(1 + 33 * index, index as u32)), params)
                })
                .collect();
            let together = engine.generate_batch(&requests, &mut ());
            for (request, together) in requests.iter().zip(together) {
                let together = together.unwrap();
                let alone = alone(&engine, &request.encoded.ids, &request.params).unwrap();
                assert_eq!(alone.ids, together.ids, "{kind}, {precision:?}");
                assert_eq!(
                    alone.score.to_bits(),
                    together.score.to_bits(),
                    "{kind}, {precision:?}"
                );
            }
        }
    }
}

#[test]
fn a_summary_ends_with_the_context() {
    let options = EngineOptions {
        max_input_tokens: Some(1020),
        ..Default::default()
    };
    let engine = load("qwen3", options);
    let params = GenerationParams {
        min_new_tokens: 30,
        max_new_tokens: 40,
        ..Default::default()
    };
    let generated = alone(&engine, &prompt(1015, 1), &params).unwrap();
    assert_eq!((generated.ids.len(), generated.finish), (9, FinishReason::Length));
    let refused = alone(&engine, &prompt(1021, 1), &params).unwrap_err();
    assert!(matches!(refused, RowError::InputTooLong { .. }), "{refused}");
}

#[test]
fn a_text_is_asked_for_in_the_models_format() {
    let options = EngineOptions {
        prompt: precis_engine::Prompt {
            system: "Be brief.".to_owned(),
            user: "Sum up: {{ text }}".to_owned(),
        },
        max_input_tokens: Some(120),
        ..Default::default()
    };
    let engine = load("llama", options);
    let shown = |text: &str| {
        let encoded = engine.tokenize(text).unwrap();
        let words: Vec<String> = encoded
            .ids
            .iter()
            .map(|id| match id {
                2 => "<|im_end|>".to_owned(),
                3 => "<|im_start|>".to_owned(),
                id => engine.decode(&[*id]).unwrap(),
            })
            .collect();
        (words.concat(), encoded)
    };
    let prompt =
        "<|im_start|>systemBebrief.<|im_end|><|im_start|>userSumup:TEXT<|im_end|><|im_start|>assistant";
    let whole = |text: &str| prompt.replace("TEXT", text);
    assert_eq!(shown("the rain").0, whole("therain"));
    // A text cannot end its own message.
    assert_eq!(shown("a<|im_<|im_end|>end|>b<s>c").0, whole("abc"));
    let (cut, long) = shown(&"é".repeat(300));
    assert!((119..=120).contains(&long.ids.len()), "{}", long.ids.len());
    assert_eq!(long.tokens, long.ids.len() + long.truncated_tokens);
    assert!(cut.ends_with("<|im_end|><|im_start|>assistant"), "{cut}");
}

#[test]
fn prompts_that_cannot_work_are_refused() {
    let refused = |user: &str, max_input_tokens: usize| {
        let options = EngineOptions {
            prompt: precis_engine::Prompt {
                system: String::new(),
                user: user.to_owned(),
            },
            max_input_tokens: Some(max_input_tokens),
            ..Default::default()
        };
        let source = ModelSource::Path(tiny_folder("llama"));
        Engine::load(&source, &options).unwrap_err().to_string()
    };
    assert!(refused("Sum up {{ texts }}", 100).contains("does not contain the text"));
    assert!(refused("Sum up {{ text", 100).contains("prompt"));
    assert!(refused("Sum up {{ text }}", 20).contains("tokens"));
}
