use precis_engine::{EngineOptions, ModelSource};

use super::*;

fn engine(most: usize) -> Arc<Engine> {
    let options = EngineOptions {
        threads: 2,
        max_input_tokens: Some(most),
        ..EngineOptions::default()
    };
    Arc::new(Engine::load(&ModelSource::Embedded, &options).unwrap())
}

const SENTENCE: &str = "The council of the harbour town voted on Monday to repair the old lighthouse. ";

fn long(text: &str, engine: &Engine) -> LongText {
    LongText {
        text: text.to_owned(),
        params: EngineParams {
            num_beams: 1,
            max_new_tokens: 24,
            ..engine.default_params().clone()
        },
        stop: None,
        keep: Arc::new(|text| text.trim().to_owned()),
    }
}

#[test]
fn parts_hold_the_whole_text_end_with_sentences_and_are_about_equally_long() {
    let engine = engine(128);
    let text = SENTENCE.repeat(40);
    let parts = split(&engine, &text).unwrap();
    assert!(parts.len() > 4, "{}", parts.len());
    let shortest = parts.iter().map(|part| part.ids.len()).min().unwrap();
    let longest = parts.iter().map(|part| part.ids.len()).max().unwrap();
    assert!(longest <= 128 && shortest > 64, "{shortest} {longest}");
    let prefix = &engine.info().prompt_prefix;
    let again: Vec<String> = parts
        .iter()
        .map(|part| {
            assert_eq!(part.truncated_tokens, 0);
            let text = engine.decode(&part.ids).unwrap();
            assert!(text.ends_with("lighthouse."), "{text}");
            text.strip_prefix(prefix.trim()).unwrap().trim().to_owned()
        })
        .collect();
    assert_eq!(again.join(" "), text.trim());
}

#[test]
fn a_text_that_fits_is_one_part_and_one_without_any_place_to_cut_is_cut_anyway() {
    let engine = engine(64);
    assert_eq!(split(&engine, SENTENCE).unwrap().len(), 1);
    for text in [
        "word ".repeat(400),
        "x".repeat(900),
        "旧港の橋を閉鎖する。".repeat(60),
        "line\n".repeat(300),
    ] {
        let parts = split(&engine, &text).unwrap();
        assert!(parts.len() > 1, "{text}");
        let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).count();
        let read: usize = parts.iter().map(|part| part.tokens).sum();
        assert!(parts.iter().all(|part| part.truncated_tokens == 0), "{text}");
        assert!(read > letters(&text) / 12, "{read} tokens of {text}");
    }
    assert!(split(&engine, "").unwrap().len() == 1);
}

#[tokio::test]
async fn summaries_of_parts_are_summarized_and_the_same_seed_gives_the_same() {
    let engine = engine(96);
    let (told, mut parts) = mpsc::channel(1000);
    let text = SENTENCE.repeat(60);
    let mut asked = long(&text, &engine);
    let (first, reading) = map_reduce(&engine, asked.clone(), &told).await.unwrap();
    assert!(reading.parts > 8, "{reading:?}");
    assert!(!first.text.is_empty());
    assert_eq!(first.embedding.len(), engine.info().d_model);
    assert!(first.timings.decode > Duration::ZERO);
    parts.close();
    asked.params.do_sample = true;
    asked.params.num_beams = 2;
    let (told, _parts) = mpsc::channel(1);
    let (sampled, _) = map_reduce(&engine, asked.clone(), &told).await.unwrap();
    asked.params.seed = sampled.seed;
    let (again, _) = map_reduce(&engine, asked.clone(), &told).await.unwrap();
    assert_eq!((&sampled.ids, sampled.seed), (&again.ids, again.seed));
}

#[tokio::test]
async fn a_text_that_fits_is_summarized_as_ever() {
    let engine = engine(512);
    let (told, _parts) = mpsc::channel(1);
    let asked = long(SENTENCE, &engine);
    let request = GenerateRequest::new(engine.tokenize(SENTENCE).unwrap(), asked.params.clone());
    let (generated, reading) = map_reduce(&engine, asked, &told).await.unwrap();
    assert_eq!(reading, Reading::default());
    let expected = engine.submit(&request).unwrap().result().await.unwrap();
    assert_eq!(
        (generated.ids.clone(), generated.embedding.clone()),
        (expected.ids, expected.embedding)
    );
}

#[tokio::test]
async fn depth_is_bounded_when_summaries_are_as_long_as_what_they_are_of() {
    let engine = engine(40);
    let (told, _parts) = mpsc::channel(1);
    let mut asked = long(&SENTENCE.repeat(12), &engine);
    (asked.params.min_new_tokens, asked.params.max_new_tokens) = (60, 60);
    let (generated, reading) = map_reduce(&engine, asked, &told).await.unwrap();
    assert!(reading.truncated_tokens > 0, "{reading:?}");
    assert_eq!(generated.ids.len(), 60);
}
