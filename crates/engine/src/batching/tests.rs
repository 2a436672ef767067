//! Panics of a compute thread, and the accounting of cache bytes.

use std::path::PathBuf;

use crate::config::ModelConfig;
use crate::kernels::{Isa, PackedKeysValues, Precision};
use crate::model::Cpu;
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
fn a_panic_fails_all_requests_of_its_thread_and_the_thread_continues() {
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
            // Requests after the panic succeed.
            match generation.wait() {
                Ok(generated) => assert_eq!(generated.ids.len(), 500),
                Err(error) => {
                    assert!(matches!(error, RowError::Panicked(_)), "{error}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 0, "no request was in flight");
        // The failed request is forgotten: an equal one starts again.
        let again = engine.submit(&request(3, 20)).unwrap().wait().unwrap();
        assert_eq!(again.ids.len(), 20);
        let found = engine.submit(&request(7, 12)).unwrap().wait().unwrap();
        assert_eq!((&expected.ids, expected.score), (&found.ids, found.score));
    }
    assert_eq!(engine.load_now().waiting, 0);
}

#[test]
fn a_panicking_stop_rule_fails_only_its_request() {
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

#[test]
fn a_text_fits_into_its_estimated_size() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/t5/config.json");
    let config = ModelConfig::from_json(&std::fs::read(file).unwrap()).unwrap();
    let shape = config.cache_shape();
    let inner = shape.heads * shape.width;
    let isa = Isa::detect();
    for precision in [Precision::F32, Precision::Int8] {
        let options = EngineOptions::default();
        let settings = crate::options::settings(&options, &Cpu::new(isa, precision), &config);
        for tokens in [1, 5, 64, 65, 300] {
            let width = 2 * inner;
            let rows = vec![0.0; tokens * width];
            let layer = PackedKeysValues::pack(
                isa,
                precision,
                &rows,
                width,
                0,
                inner,
                tokens,
                shape.heads,
                shape.width,
            );
            let (taken, counted) = (shape.layers * layer.bytes(), settings.bytes_of_text(tokens));
            assert!(
                taken <= counted,
                "{precision:?}, {tokens} tokens: {taken} bytes, {counted} counted"
            );
            // The estimate exceeds the real size by padding to whole panels only.
            let fewest = tokens.next_multiple_of(64) * shape.layers * width;
            let bytes_per_number = if precision == Precision::F32 { 4 } else { 2 };
            assert!(counted <= fewest * bytes_per_number * 64_usize.div_ceil(shape.width));
        }
    }
}
