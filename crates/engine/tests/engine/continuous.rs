//! Requests that join and leave during decoding, and shortcuts that do not change results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::executor::block_on;
use precis_engine::{
    Drafting, Engine, EngineOptions, Event, FinishReason, GenerateRequest, Generated, GenerationParams,
    ModelSource, StopRule,
};

use crate::common::{encoded, mini, mini_folder, tiny};

const ARTICLES: &str = include_str!("../../../../samples/articles.jsonl");

fn articles() -> Vec<String> {
    let text = |line: &str| {
        let article: serde_json::Value = serde_json::from_str(line).unwrap();
        article["article"].as_str().unwrap().to_owned()
    };
    ARTICLES.lines().map(text).collect()
}

fn with(change: impl FnOnce(&mut EngineOptions)) -> Engine {
    let mut options = EngineOptions {
        device: "cpu".parse().unwrap(),
        threads: 2,
        ..Default::default()
    };
    change(&mut options);
    Engine::load(&ModelSource::Path(mini_folder()), &options).unwrap()
}

fn greedy(engine: &Engine, text: &str) -> GenerateRequest {
    let params = GenerationParams {
        num_beams: 1,
        ..engine.default_params().clone()
    };
    GenerateRequest::new(engine.tokenize(text).unwrap(), params)
}

#[test]
fn drafts_save_steps_without_changing_results() {
    let (plain, drafted) = (with(|options| options.drafting = Drafting::Off), mini());
    let (mut tokens, mut steps) = (0, 0);
    let special = [
        GenerationParams::default(),
        GenerationParams {
            min_new_tokens: 30,
            no_repeat_ngram_size: 3,
            ..Default::default()
        },
        GenerationParams {
            repetition_penalty: 1.3,
            ..Default::default()
        },
    ];
    for (text, params) in articles().iter().zip(special.iter().cycle()) {
        let mut request = greedy(&plain, text);
        request.params = params.clone();
        let expected = plain.submit(&request).unwrap().wait().unwrap();
        let found = drafted.submit(&request).unwrap().wait().unwrap();
        assert_eq!(expected.ids, found.ids, "{text}");
        assert_eq!(expected.score.to_bits(), found.score.to_bits());
        assert_eq!(expected.steps, expected.ids.len());
        (tokens, steps) = (tokens + found.ids.len(), steps + found.steps);
    }
    assert!(3 * steps < 2 * tokens, "{steps} steps for {tokens} tokens");
}

#[test]
fn events_arrive_in_order() {
    let engine = mini();
    let request = greedy(&engine, &articles()[0]);
    let events: Vec<Event> = block_on(engine.submit(&request).unwrap().collect());
    assert_eq!(events[0], Event::Started);
    let Some(Event::Finished(result)) = events.last() else {
        panic!("{events:?}")
    };
    let mut before = 0;
    for event in &events[1..events.len() - 1] {
        let Event::Tokens(tokens) = event else {
            panic!("{event:?}")
        };
        assert!(tokens.len() > before && result.ids.starts_with(tokens));
        before = tokens.len();
    }
    assert!(before > 0);
}

/// A request that keeps a thread busy for long.
fn long(engine: &Engine, seed: u32) -> GenerateRequest {
    let ids: Vec<u32> = (0..40)
        .map(|index| 3 + (index * 7 + seed) % 200)
        .chain([1])
        .collect();
    let params = GenerationParams {
        num_beams: 2,
        min_new_tokens: 512,
        max_new_tokens: 512,
        ..engine.default_params().clone()
    };
    GenerateRequest::new(encoded(&ids), params)
}

#[test]
fn a_late_short_request_finishes_before_an_early_long_one() {
    let engine = tiny("t5");
    let mut early = engine.submit(&long(&engine, 1)).unwrap();
    let mut other = engine.submit(&long(&engine, 2)).unwrap();
    // Wait until both threads are decoding.
    block_on(async {
        while !matches!(early.next().await, Some(Event::Tokens(_))) {}
        while !matches!(other.next().await, Some(Event::Tokens(_))) {}
    });
    let params = GenerationParams {
        max_new_tokens: 2,
        ..Default::default()
    };
    let late = GenerateRequest::new(encoded(&[5, 6, 1]), params);
    engine.submit(&late).unwrap().wait().unwrap();
    let left = block_on(async {
        let mut left = 0;
        while let Some(event) = early.next().await {
            left += usize::from(matches!(event, Event::Tokens(_)));
        }
        left
    });
    assert!(left > 100, "the early one had {left} tokens left");
    assert_eq!(other.wait().unwrap().ids.len(), 512);
}

#[test]
fn a_dropped_request_frees_its_room() {
    let engine = tiny("t5");
    let requests: Vec<_> = (0..40)
        .map(|seed| engine.submit(&long(&engine, seed)).unwrap())
        .collect();
    drop(requests);
    let params = GenerationParams {
        max_new_tokens: 3,
        ..Default::default()
    };
    let next = GenerateRequest::new(encoded(&[5, 6, 1]), params);
    engine.submit(&next).unwrap().wait().unwrap();
    loop {
        // A single snapshot: with two, a request could move between the counts.
        let load = engine.load_now();
        if load.rows + load.waiting == 0 {
            break;
        }
        std::thread::yield_now();
    }
}

#[test]
fn equal_requests_in_flight_are_decoded_once() {
    let engine = tiny("t5");
    let request = long(&engine, 3);
    let first = engine.submit(&request).unwrap();
    let second = engine.submit(&request).unwrap();
    let third = engine.submit(&request).unwrap();
    let load = engine.load_now();
    assert!(load.waiting + load.rows / 2 <= 1, "{load:?}");
    // A request that leaves does not affect the others.
    drop(first);
    let (second, third) = (second.wait().unwrap(), third.wait().unwrap());
    assert_eq!((second.ids, second.score), (third.ids, third.score));
    // Samples without a seed are independent draws.
    let params = GenerationParams {
        do_sample: true,
        max_new_tokens: 24,
        ..Default::default()
    };
    let sample = GenerateRequest::new(encoded(&[5, 6, 1]), params);
    let draws: Vec<_> = (0..6).map(|_| engine.submit(&sample).unwrap()).collect();
    let mut ids: Vec<Vec<u32>> = draws.into_iter().map(|draw| draw.wait().unwrap().ids).collect();
    ids.dedup();
    assert!(ids.len() > 1);
}

#[test]
fn each_equal_request_reports_the_time_since_it_was_submitted() {
    let engine = tiny("t5");
    let request = long(&engine, 3);
    let mut early = engine.submit(&request).unwrap();
    block_on(async {
        while !matches!(early.next().await, Some(Event::Tokens(tokens)) if tokens.len() > 20) {}
    });
    let mut late = engine.submit(&request).unwrap();
    // The early request is being decoded already, so the late one has started too.
    assert_eq!(block_on(late.next()), Some(Event::Started));
    let late = late.wait().unwrap();
    assert_eq!((late.timings.wait, late.timings.encode), Default::default());
    let early = early.wait().unwrap();
    assert_eq!(early.ids, late.ids);
    assert!(early.timings.decode > late.timings.decode, "{:?}", early.timings);
}

#[test]
fn a_repeated_text_reuses_its_encoder_states() {
    let engine = with(|options| options.text_bytes = 64 << 20);
    let fresh = with(|options| options.text_bytes = 0);
    let mut request = greedy(&engine, &articles()[1]);
    let results = |request: &GenerateRequest| -> [Generated; 2] {
        [&engine, &fresh].map(|engine| engine.submit(request).unwrap().wait().unwrap())
    };
    assert!(!results(&request)[0].reused_encoder);
    request.params.num_beams = 4;
    let [reused, read] = results(&request);
    assert!(reused.reused_encoder && !read.reused_encoder);
    assert_eq!((reused.ids, reused.embedding), (read.ids, read.embedding));
}

#[test]
fn a_stop_rule_saves_steps_and_keeps_the_same_text() {
    let engine = mini();
    let first = |text: &str| text.split_inclusive(". ").next().unwrap().trim().to_owned();
    let rule = StopRule::new(|text| {
        text.split_inclusive(". ")
            .nth(1)
            .is_some_and(|rest| rest.contains(' '))
    });
    let mut stopped = 0;
    for text in articles() {
        let mut request = greedy(&engine, &text);
        // Without a minimum length, the model usually stops after one sentence.
        request.params.min_new_tokens = 60;
        let whole = engine.submit(&request).unwrap().wait().unwrap();
        request.stop = Some(rule.clone());
        let cut = engine.submit(&request).unwrap().wait().unwrap();
        assert_eq!(first(&whole.text), first(&cut.text));
        if cut.finish == FinishReason::Stop {
            stopped += 1;
            assert!(cut.ids.len() < whole.ids.len() && whole.ids.starts_with(&cut.ids));
        }
    }
    assert!(stopped > 3, "only {stopped} were stopped");
}

#[test]
fn several_sequences_are_returned_best_first() {
    let engine = mini();
    let mut request = greedy(&engine, &articles()[2]);
    request.params.num_beams = 4;
    let alone = engine.submit(&request).unwrap().wait().unwrap();
    request.params.num_return_sequences = 3;
    let several = engine.submit(&request).unwrap().wait().unwrap();
    assert_eq!((alone.ids, alone.score), (several.ids, several.score));
    assert_eq!(several.alternatives.len(), 2);
    assert!(several.score >= several.alternatives[0].score);
    assert!(several.alternatives[0].score >= several.alternatives[1].score);
    request.params.num_return_sequences = 5;
    assert!(
        engine
            .submit(&request)
            .unwrap_err()
            .to_string()
            .contains("num_return_sequences")
    );
}

#[test]
fn a_replaced_engine_finishes_its_requests() {
    let engine = tiny("t5");
    let requests: Vec<_> = (0..30).map(|seed| long(&engine, seed)).collect();
    let given: Vec<_> = requests
        .iter()
        .map(|request| engine.submit(request).unwrap())
        .collect();
    drop(engine);
    for generation in given {
        assert_eq!(generation.wait().unwrap().ids.len(), 512);
    }
}

#[test]
fn many_callers_share_the_compute_threads() {
    let engine = Arc::new(tiny("t5-v1_1"));
    let done = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for caller in 0..16u32 {
            let (engine, done) = (engine.clone(), done.clone());
            scope.spawn(move || {
                for turn in 0..8u32 {
                    let params = GenerationParams {
                        num_beams: 1 + (turn as usize + caller as usize) % 5,
                        max_new_tokens: 4 + turn as usize,
                        ..Default::default()
                    };
                    let ids: Vec<u32> = (0..1 + turn * 9)
                        .map(|index| 3 + (index * caller) % 200)
                        .collect();
                    let request = GenerateRequest::new(encoded(&ids), params);
                    let together = engine.submit(&request).unwrap().wait().unwrap();
                    assert!(!together.ids.is_empty());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 128);
}
