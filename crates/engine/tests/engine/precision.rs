//! Compares the kernels with candle's tensors, and bf16 and int8 with f32.

use precis_engine::{Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice};
use precis_scoring::Rouge;

use crate::common::{alone, encoded, mini_folder, tiny_folder};

fn load(folder: std::path::PathBuf, precision: PrecisionChoice, reference: bool) -> Engine {
    let options = EngineOptions {
        device: "cpu".parse().unwrap(),
        precision,
        threads: 2,
        reference,
        ..Default::default()
    };
    Engine::load(&ModelSource::Path(folder), &options).unwrap()
}

#[test]
fn kernels_equal_candle() {
    for name in ["t5", "t5-v1_1", "umt5"] {
        let folder = tiny_folder(name);
        let ours = load(folder.clone(), PrecisionChoice::F32, false);
        let theirs = load(folder, PrecisionChoice::F32, true);
        let mut requests = Vec::new();
        for (seed, length) in [1u32, 2, 9, 40, 129].into_iter().enumerate() {
            let ids: Vec<u32> = (0..length)
                .map(|index| 3 + (index * 13 + 5 * length) % 250)
                .collect();
            for num_beams in [1, 3] {
                let params = GenerationParams {
                    num_beams,
                    do_sample: seed % 2 == 1,
                    seed: Some(seed as u64),
                    max_new_tokens: 20,
                    ..Default::default()
                };
                requests.push(GenerateRequest::new(encoded(&ids), params));
            }
        }
        let (ours, theirs) = (
            ours.generate_batch(&requests, &mut ()),
            theirs.generate_batch(&requests, &mut ()),
        );
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
            assert_eq!(ours.ids, theirs.ids, "{name}");
            assert!((ours.score - theirs.score).abs() < 1e-4);
        }
    }
}

/// A vocabulary large enough that the device returns only the highest logits.
#[test]
fn highest_logits_give_the_same_result_as_all_logits() {
    let ours = load(mini_folder(), PrecisionChoice::F32, false);
    let theirs = load(mini_folder(), PrecisionChoice::F32, true);
    let mut requests = Vec::new();
    for (seed, line) in ARTICLES.lines().take(3).enumerate() {
        let article: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = article["article"].as_str().unwrap();
        let input = ours.tokenize(&text[..text.len().min(300)]).unwrap();
        for (num_beams, do_sample) in [(1, false), (4, false), (3, true)] {
            let params = GenerationParams {
                num_beams,
                do_sample,
                seed: Some(seed as u64),
                min_new_tokens: 6,
                no_repeat_ngram_size: 3,
                max_new_tokens: 16,
                ..Default::default()
            };
            requests.push(GenerateRequest::new(input.clone(), params));
        }
    }
    let results = ours
        .generate_batch(&requests, &mut ())
        .into_iter()
        .zip(theirs.generate_batch(&requests, &mut ()));
    for (ours, theirs) in results {
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(ours.ids, theirs.ids);
        assert!((ours.score - theirs.score).abs() < 1e-4);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
        assert!(ours.embedding.iter().zip(theirs.embedding.iter()).all(near));
    }
}

const ARTICLES: &str = include_str!("../../../../samples/articles.jsonl");

/// bf16 and int8 nearly always produce the same text as f32, except where two continuations score almost the same.
/// `precis bench quality` measures the effect on ROUGE over more texts.
#[test]
fn lower_precisions_produce_nearly_the_same_text() {
    let exact = load(mini_folder(), PrecisionChoice::F32, false);
    let rouge = Rouge::new(false);
    for (precision, least) in [(PrecisionChoice::Bf16, 0.85), (PrecisionChoice::Int8, 0.75)] {
        let rounded = load(mini_folder(), precision, false);
        let mut agreement = Vec::new();
        for line in ARTICLES.lines() {
            let article: serde_json::Value = serde_json::from_str(line).unwrap();
            let input = exact.tokenize(article["article"].as_str().unwrap()).unwrap();
            let expected = alone(&exact, &input.ids, exact.default_params()).unwrap();
            let found = alone(&rounded, &input.ids, exact.default_params()).unwrap();
            agreement.push(rouge.score(&expected.text, &found.text).rouge_l.fmeasure);
        }
        let mean = agreement.iter().sum::<f64>() / agreement.len() as f64;
        println!("{precision:?}: mean ROUGE-L against f32 {mean:.3}");
        assert!(mean > least, "{precision:?}: {mean}");
    }
}
