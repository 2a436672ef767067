//! A compute thread that panics where nothing is expected to fail.

use std::path::PathBuf;

use crate::{
    Encoded, Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, RowError, StopRule,
};

fn engine() -> Engine {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/t5");
    let options = EngineOptions {
        device: "cpu".parse().unwrap(),
        threads: 1,
        ..Default::default()
    };
    Engine::load(&ModelSource::Path(folder), &options).unwrap()
}

fn request(first: u32, new_tokens: usize) -> GenerateRequest {
    let encoded = Encoded {
        ids: vec![first, 5, 9, 1],
        tokens: 4,
        truncated_tokens: 0,
    };
    let params = GenerationParams {
        num_beams: 2,
        min_new_tokens: new_tokens,
        max_new_tokens: new_tokens,
        ..Default::default()
    };
    GenerateRequest::new(encoded, params)
}

#[test]
fn a_panic_of_the_only_thread_is_told_to_all_who_wait_and_the_thread_goes_on() {
    let engine = engine();
    let expected = engine.submit(&request(7, 12)).unwrap().wait().unwrap();
    for _ in 0..3 {
        let requests = [request(3, 500), request(4, 500), request(3, 500)];
        let generations: Vec<_> = requests
            .iter()
            .map(|request| engine.submit(request).unwrap())
            .collect();
        engine.batcher().panic_next();
        let mut failed = 0;
        for generation in generations {
            // What came after the panic is done as if nothing had been.
            match generation.wait() {
                Ok(generated) => assert_eq!(generated.ids.len(), 500),
                Err(error) => {
                    assert!(matches!(error, RowError::Panicked(_)), "{error}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 0, "nothing was in hand");
        // Nothing is left of the lost ones: an equal request is a new one.
        let again = engine.submit(&request(3, 20)).unwrap().wait().unwrap();
        assert_eq!(again.ids.len(), 20);
        let found = engine.submit(&request(7, 12)).unwrap().wait().unwrap();
        assert_eq!((&expected.ids, expected.score), (&found.ids, found.score));
    }
    assert_eq!(engine.load_now().waiting, 0);
}

#[test]
fn a_stop_rule_that_panics_costs_its_own_request() {
    let engine = engine();
    let mut bad = request(3, 60);
    bad.params.num_beams = 1;
    bad.stop = Some(StopRule::new(|_| panic!("no rule at all")));
    let (bad, good) = (
        engine.submit(&bad).unwrap(),
        engine.submit(&request(4, 60)).unwrap(),
    );
    assert!(matches!(bad.wait(), Err(RowError::Panicked(message)) if message.contains("no rule")));
    assert_eq!(good.wait().unwrap().ids.len(), 60);
}
