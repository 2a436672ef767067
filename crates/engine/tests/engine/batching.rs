//! Rows of a batch are independent: a row that fails or is cancelled leaves the others unchanged.

use std::sync::Arc;

use precis_engine::{
    BatchObserver, Engine, FinishReason, GenerateRequest, GenerationParams, RowDecision, RowError,
};

use crate::common::{alone, encoded, mini, tiny};

/// Plausible ids: the model's own, in a different order per seed.
fn ids(engine: &Engine, length: usize, seed: usize) -> Vec<u32> {
    const TEXT: &str = "The city of Port Ellis will close its old harbour bridge to cars from next spring after \
        engineers found cracks in three of its supports, the mayor said on Tuesday. Buses and pedestrians will still be \
        able to cross while repairs are carried out. The work is expected to take 18 months and cost 41 million. ";
    let text = engine.tokenize(&TEXT.repeat(8)).unwrap().ids;
    let start = seed * 37 % 60;
    let mut ids: Vec<u32> = text[start..]
        .iter()
        .chain(&text)
        .copied()
        .take(length - 1)
        .collect();
    ids.push(1);
    ids
}

#[test]
fn a_mixed_batch_equals_its_requests_alone() {
    let engine = mini();
    let params = [
        GenerationParams {
            max_new_tokens: 24,
            ..Default::default()
        },
        GenerationParams {
            num_beams: 4,
            max_new_tokens: 24,
            ..Default::default()
        },
        GenerationParams {
            num_beams: 3,
            length_penalty: 2.0,
            no_repeat_ngram_size: 3,
            max_new_tokens: 20,
            ..Default::default()
        },
        GenerationParams {
            do_sample: true,
            seed: Some(5),
            max_new_tokens: 24,
            ..Default::default()
        },
        GenerationParams {
            num_beams: 2,
            do_sample: true,
            seed: Some(6),
            max_new_tokens: 16,
            ..Default::default()
        },
        GenerationParams {
            repetition_penalty: 1.4,
            min_new_tokens: 12,
            max_new_tokens: 30,
            ..Default::default()
        },
    ];
    let lengths = [1, 512, 2, 3, 9, 17, 40, 100, 130, 257, 300, 511];
    let requests: Vec<GenerateRequest> = lengths
        .iter()
        .zip(params.iter().cycle())
        .enumerate()
        .map(|(seed, (length, params))| GenerateRequest {
            encoded: encoded(&ids(&engine, *length, seed)),
            params: params.clone(),
            stop: None,
        })
        .collect();
    let together = engine.generate_batch(&requests, &mut ());
    for (request, result) in requests.iter().zip(together) {
        let (own, result) = (
            alone(&engine, &request.encoded.ids, &request.params).unwrap(),
            result.unwrap(),
        );
        let what = format!("{} tokens, {:?}", request.encoded.ids.len(), request.params);
        assert_eq!(own.ids, result.ids, "{what}");
        assert_eq!((own.text, own.finish), (result.text, result.finish), "{what}");
        assert!(
            (own.score - result.score).abs() < 1e-4,
            "{what}: {} and {}",
            own.score,
            result.score
        );
        assert_eq!(own.embedding, result.embedding);
    }
}

/// Cancels row `row` after `step` steps and records every call.
struct Canceller {
    row: usize,
    step: usize,
    asked: Vec<(usize, usize, usize)>,
}

impl BatchObserver for Canceller {
    fn keep(&mut self, row: usize, step: usize, tokens: &[u32]) -> RowDecision {
        self.asked.push((row, step, tokens.len()));
        match row == self.row && step >= self.step {
            true => RowDecision::Cancel("no longer wanted".to_owned()),
            false => RowDecision::Continue,
        }
    }
}

fn four(engine: &Engine) -> Vec<GenerateRequest> {
    let request = |seed: usize, length, num_beams| GenerateRequest {
        encoded: encoded(&ids(engine, length, seed)),
        params: GenerationParams {
            num_beams,
            min_new_tokens: 12,
            max_new_tokens: 16,
            ..Default::default()
        },
        stop: None,
    };
    vec![
        request(0, 30, 4),
        request(1, 200, 1),
        request(2, 60, 2),
        request(3, 8, 4),
    ]
}

#[test]
fn a_cancelled_row_leaves_at_the_next_step() {
    let engine = tiny("t5");
    let requests = four(&engine);
    let undisturbed = engine.generate_batch(&requests, &mut ());
    for (row, step) in [(0, 0), (1, 3), (2, 5), (3, 1)] {
        let mut observer = Canceller {
            row,
            step,
            asked: Vec::new(),
        };
        let results = engine.generate_batch(&requests, &mut observer);
        for (index, (result, expected)) in results.iter().zip(&undisturbed).enumerate() {
            if index == row {
                assert_eq!(
                    *result,
                    Err(RowError::Cancelled {
                        reason: "no longer wanted".to_owned()
                    })
                );
            } else {
                assert_eq!(
                    result.as_ref().unwrap().ids,
                    expected.as_ref().unwrap().ids,
                    "row {index}"
                );
            }
        }
        let last = observer
            .asked
            .iter()
            .filter(|asked| asked.0 == row)
            .map(|asked| asked.1)
            .max();
        assert_eq!(last, Some(step), "asked again after it was cancelled");
        assert!(observer.asked.iter().all(|(_, step, tokens)| step == tokens));
    }
}

#[test]
fn a_batch_of_cancelled_rows_computes_nothing() {
    struct Nobody;
    impl BatchObserver for Nobody {
        fn keep(&mut self, _: usize, step: usize, _: &[u32]) -> RowDecision {
            assert_eq!(step, 0);
            RowDecision::Cancel("expired".to_owned())
        }
    }
    let engine = tiny("t5");
    let results = engine.generate_batch(&four(&engine), &mut Nobody);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(RowError::Cancelled { .. })))
    );
    assert!(engine.generate_batch(&[], &mut ()).is_empty());
}

#[test]
fn a_bad_row_fails_alone() {
    let engine = tiny("t5");
    let mut requests = four(&engine);
    let good = engine.generate_batch(&requests, &mut ());
    requests.push(GenerateRequest {
        encoded: encoded(&[]),
        params: GenerationParams::default(),
        stop: None,
    });
    requests.push(GenerateRequest {
        encoded: encoded(&[4; 513]),
        params: GenerationParams::default(),
        stop: None,
    });
    requests.push(GenerateRequest {
        encoded: encoded(&[4, 300, 1]),
        params: GenerationParams::default(),
        stop: None,
    });
    let wide = GenerationParams {
        num_beams: 65,
        ..Default::default()
    };
    requests.push(GenerateRequest {
        encoded: encoded(&[4, 1]),
        params: wide,
        stop: None,
    });
    requests.rotate_right(2);
    let mut results = engine.generate_batch(&requests, &mut ());
    results.rotate_left(2);
    for (result, good) in results.iter().zip(&good) {
        assert_eq!(result.as_ref().unwrap().ids, good.as_ref().unwrap().ids);
    }
    assert_eq!(results[4], Err(RowError::EmptyInput));
    assert_eq!(
        results[5],
        Err(RowError::InputTooLong {
            tokens: 513,
            most: 512
        })
    );
    assert_eq!(
        results[6],
        Err(RowError::TokenOutOfRange {
            id: 300,
            vocabulary: 300
        })
    );
    let text = results[7].as_ref().unwrap_err().to_string();
    assert_eq!(text, "num_beams must be at least 1 and at most 64, not 65");
}

#[test]
fn a_panicking_observer_fails_only_its_row() {
    struct Fragile;
    impl BatchObserver for Fragile {
        fn keep(&mut self, row: usize, step: usize, _: &[u32]) -> RowDecision {
            assert!(row != 1 || step < 2, "row 1 is not looked at any more");
            RowDecision::Continue
        }
    }
    let engine = tiny("t5");
    let requests = four(&engine);
    let good = engine.generate_batch(&requests, &mut ());
    let results = engine.generate_batch(&requests, &mut Fragile);
    assert!(matches!(&results[1], Err(RowError::Panicked(message)) if message.contains("row 1")));
    for row in [0, 2, 3] {
        assert_eq!(
            results[row].as_ref().unwrap().ids,
            good[row].as_ref().unwrap().ids
        );
    }
    assert_eq!(engine.generate_batch(&requests, &mut ()).len(), 4);
}

#[test]
fn an_engine_serves_many_threads() {
    let engine = Arc::new(tiny("t5-v1_1"));
    let expected = engine.generate_batch(&four(&engine), &mut ());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let engine = engine.clone();
            std::thread::spawn(move || engine.generate_batch(&four(&engine), &mut ()))
        })
        .collect();
    for thread in threads {
        for (result, expected) in thread.join().unwrap().iter().zip(&expected) {
            assert_eq!(result.as_ref().unwrap().ids, expected.as_ref().unwrap().ids);
        }
    }
}

#[test]
fn more_beams_than_tokens_work() {
    let engine = tiny("t5");
    for do_sample in [false, true] {
        let params = GenerationParams {
            num_beams: 64,
            do_sample,
            seed: Some(1),
            max_new_tokens: 9,
            ..Default::default()
        };
        let generated = alone(&engine, &[4, 1], &params).unwrap();
        assert!((1..=9).contains(&generated.ids.len()));
        assert_eq!(
            generated.finish == FinishReason::Length,
            generated.ids.last() != Some(&1)
        );
    }
    let one = GenerationParams {
        max_new_tokens: 1,
        num_beams: 4,
        ..Default::default()
    };
    assert_eq!(alone(&engine, &[4, 1], &one).unwrap().ids.len(), 1);
}
