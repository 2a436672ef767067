//! Sampling, compared with transformers as a distribution. Seeds are fixed, so the tests are deterministic.

use std::collections::BTreeMap;

use precis_engine::{Engine, GenerateRequest, GenerationParams};
use serde::Deserialize;
use serde_json::Value;

use crate::common::{alone, encoded, tiny, tiny_folder};
use crate::golden::params;

#[derive(Deserialize)]
struct Reference {
    input_ids: Vec<u32>,
    first_token: Vec<FirstToken>,
    beam_sampling: Vec<BeamSampling>,
}

#[derive(Deserialize)]
struct FirstToken {
    params: BTreeMap<String, Value>,
    probabilities: Probabilities,
}

/// Probabilities of the first token, by id.
type Probabilities = BTreeMap<u32, f64>;

#[derive(Deserialize)]
struct BeamSampling {
    params: BTreeMap<String, Value>,
    /// How often transformers drew each sequence. Keys are ids separated by spaces.
    counts: BTreeMap<String, usize>,
}

fn reference() -> Reference {
    serde_json::from_str(&std::fs::read_to_string(tiny_folder("t5").join("sampling.json")).unwrap()).unwrap()
}

/// Generates with `count` seeds, in batches.
fn draw(engine: &Engine, ids: &[u32], params: &GenerationParams, count: u64) -> Vec<Vec<u32>> {
    let mut drawn = Vec::new();
    let seeds: Vec<u64> = (0..count).collect();
    for seeds in seeds.chunks(500) {
        let request = |seed: &u64| GenerateRequest {
            encoded: encoded(ids),
            params: GenerationParams {
                do_sample: true,
                seed: Some(*seed),
                ..params.clone()
            },
            stop: None,
        };
        let requests: Vec<GenerateRequest> = seeds.iter().map(request).collect();
        let results = engine.generate_batch(&requests, &mut ());
        drawn.extend(results.into_iter().map(|result| result.unwrap().ids));
    }
    drawn
}

/// Returns the chi-square value that is exceeded by chance with probability 0.001 (Wilson and Hilferty).
fn critical(degrees: usize) -> f64 {
    let n = degrees as f64;
    n * (1.0 - 2.0 / (9.0 * n) + 3.09 * (2.0 / (9.0 * n)).sqrt()).powi(3)
}

/// Returns the chi-square of first tokens drawn with `params` against `probabilities`, and its degrees of freedom.
/// Tokens expected fewer than five times are merged.
fn chi_square(
    engine: &Engine,
    ids: &[u32],
    params: &GenerationParams,
    probabilities: &Probabilities,
) -> (f64, usize) {
    const DRAWS: u64 = 20_000;
    let params = GenerationParams {
        max_new_tokens: 1,
        ..params.clone()
    };
    let mut counts = BTreeMap::<u32, f64>::new();
    for ids in draw(engine, ids, &params, DRAWS) {
        *counts.entry(ids[0]).or_default() += 1.0;
    }
    // top_k and top_p never allow any other token.
    for id in counts.keys() {
        assert!(probabilities.contains_key(id), "{params:?}: token {id}");
    }
    let (mut chi_square, mut cells) = (0.0, 0);
    let (mut rare_expected, mut rare_seen) = (0.0, 0.0);
    let mut add = |expected: f64, seen: f64| {
        if expected > 0.0 {
            chi_square += (seen - expected).powi(2) / expected;
            cells += 1;
        }
    };
    for (id, probability) in probabilities {
        let (expected, seen) = (probability * DRAWS as f64, counts.get(id).copied().unwrap_or(0.0));
        if expected < 5.0 {
            rare_expected += expected;
            rare_seen += seen;
        } else {
            add(expected, seen);
        }
    }
    add(rare_expected, rare_seen);
    (chi_square, cells - 1)
}

#[test]
fn first_tokens_follow_the_distribution_of_transformers() {
    let engine = tiny("t5");
    let reference = reference();
    for case in &reference.first_token {
        let (found, degrees) = chi_square(
            &engine,
            &reference.input_ids,
            &params(&case.params),
            &case.probabilities,
        );
        if degrees > 0 {
            let most = critical(degrees);
            assert!(
                found < most,
                "{:?}: {found:.1} of {most:.1}, {degrees} degrees",
                case.params
            );
        } else {
            assert_eq!(case.probabilities.len(), 1, "{:?}", case.params);
        }
    }
}

/// Proves that the test above would notice a slightly wrong temperature.
#[test]
fn a_temperature_off_by_a_tenth_is_detected() {
    let engine = tiny("t5");
    let reference = reference();
    let mut tried = 0;
    for case in &reference.first_token {
        // With top_p, another temperature would allow other tokens.
        if case.probabilities.len() < 20 || params(&case.params).top_p < 1.0 {
            continue;
        }
        let right = params(&case.params);
        for factor in [0.9, 1.1] {
            let wrong = GenerationParams {
                temperature: right.temperature * factor,
                ..right.clone()
            };
            let (found, degrees) = chi_square(&engine, &reference.input_ids, &wrong, &case.probabilities);
            let most = critical(degrees);
            assert!(
                found > most,
                "{:?} x {factor}: {found:.1} of {most:.1}",
                case.params
            );
            tried += 1;
        }
    }
    assert!(tried > 0);
}

#[test]
fn beam_samples_follow_the_distribution_of_transformers() {
    const DRAWS: u64 = 20_000;
    let engine = tiny("t5");
    let reference = reference();
    for case in &reference.beam_sampling {
        let mut ours = BTreeMap::<String, f64>::new();
        for ids in draw(&engine, &reference.input_ids, &params(&case.params), DRAWS) {
            let key = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            *ours.entry(key).or_default() += 1.0;
        }
        // Chi-square of two samples. Rare sequences are merged.
        let total: usize = case.counts.values().sum();
        let (ours_total, theirs_total) = (DRAWS as f64, total as f64);
        let mut keys: Vec<&String> = ours.keys().chain(case.counts.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut cells = vec![(0.0, 0.0)];
        for key in keys {
            let own = ours.get(key).copied().unwrap_or(0.0);
            let theirs = case.counts.get(key).copied().unwrap_or(0) as f64;
            if own + theirs < 40.0 {
                cells[0].0 += own;
                cells[0].1 += theirs;
            } else {
                cells.push((own, theirs));
            }
        }
        let scale = (theirs_total / ours_total).sqrt();
        let term =
            |(own, theirs): &(f64, f64)| (own * scale - theirs / scale).powi(2) / (own + theirs).max(1.0);
        let chi_square: f64 = cells.iter().map(term).sum();
        let most = critical(cells.len() - 1);
        assert!(cells.len() > 5, "{:?}: only {} cells", case.params, cells.len());
        assert!(
            chi_square < most,
            "{:?}: {chi_square:.1} of {most:.1}, {} cells",
            case.params,
            cells.len()
        );
    }
}

#[test]
fn a_seed_gives_the_same_result_in_any_batch() {
    let engine = tiny("t5");
    let input = reference().input_ids;
    let sample = |num_beams, seed| GenerationParams {
        num_beams,
        do_sample: true,
        seed: Some(seed),
        max_new_tokens: 20,
        ..Default::default()
    };
    let mut requests = Vec::new();
    for seed in 0..6 {
        for (beams, length) in [(1, input.len()), (4, 5), (2, input.len()), (1, 3)] {
            requests.push(GenerateRequest {
                encoded: encoded(&input[..length]),
                params: sample(beams, seed),
                stop: None,
            });
        }
    }
    let together = engine.generate_batch(&requests, &mut ());
    let mut different = std::collections::BTreeSet::new();
    for (request, result) in requests.iter().zip(together) {
        let result = result.unwrap();
        let own = alone(&engine, &request.encoded.ids, &request.params).unwrap();
        assert_eq!((&own.ids, own.seed), (&result.ids, request.params.seed));
        different.insert(result.ids);
    }
    assert!(different.len() > 12, "only {} different results", different.len());
}

#[test]
fn results_contain_the_drawn_seed() {
    let engine = tiny("t5");
    let input = reference().input_ids;
    let params = GenerationParams {
        do_sample: true,
        max_new_tokens: 12,
        ..Default::default()
    };
    let first = alone(&engine, &input, &params).unwrap();
    let seeded = GenerationParams {
        seed: first.seed,
        ..params
    };
    let again = alone(&engine, &input, &seeded).unwrap();
    assert!(first.seed.is_some());
    assert_eq!(first.ids, again.ids);
    let greedy = alone(
        &engine,
        &input,
        &GenerationParams {
            do_sample: false,
            ..params
        },
    )
    .unwrap();
    assert_eq!(greedy.seed, None);
}
