//! Prints the time per article; not an assertion.

use std::time::Instant;

use precis_engine::{Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource};

use crate::common::{encoded, mini_folder};

/// Prints milliseconds per article of 350 tokens: 1 and 2 threads, greedy and beams, single and batched.
#[test]
#[ignore = "measures the machine it runs on; run it with --release --ignored --nocapture"]
fn time_per_article() {
    for threads in [1, 2] {
        let options = EngineOptions {
            device: "cpu".parse().unwrap(),
            threads,
            ..Default::default()
        };
        let engine = Engine::load(&ModelSource::Path(mini_folder()), &options).unwrap();
        let text =
            "The council of the harbour town voted on Monday to repair the old lighthouse. ".repeat(40);
        let mut ids = engine.tokenize(&text).unwrap().ids;
        ids.truncate(349);
        ids.push(1);
        for (num_beams, batch) in [(1, 1), (1, 8), (4, 1), (4, 4), (8, 1), (8, 4)] {
            let params = GenerationParams {
                num_beams,
                min_new_tokens: 63,
                ..Default::default()
            };
            let requests = vec![GenerateRequest::new(encoded(&ids), params); batch];
            let mut best = (f64::INFINITY, 0.0, 0.0);
            for _ in 0..3 {
                #[allow(clippy::disallowed_methods, reason = "a measurement")]
                let begin = Instant::now();
                let results = engine.generate_batch(&requests, &mut ());
                let each = begin.elapsed().as_secs_f64() * 1e3 / batch as f64;
                let timings = results[0].as_ref().unwrap().timings;
                let part = |time: std::time::Duration| time.as_secs_f64() * 1e3 / batch as f64;
                if each < best.0 {
                    best = (each, part(timings.encode), part(timings.decode));
                }
            }
            println!(
                "{threads} threads, {num_beams} beams, batch of {batch}: {:.1} ms an article (encoder {:.1}, decoder {:.1})",
                best.0, best.1, best.2
            );
        }
    }
}
