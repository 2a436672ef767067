use precis_engine::{EngineOptions, ModelSource};

use super::*;

fn engine(max_input_tokens: usize) -> Arc<Engine> {
    let options = EngineOptions {
        threads: 2,
        max_input_tokens: Some(max_input_tokens),
        ..EngineOptions::default()
    };
    Arc::new(Engine::load(&ModelSource::Embedded, &options).unwrap())
}

const SENTENCE: &str = "The council of the harbour town voted on Monday to repair the old lighthouse. ";

fn long_text(text: &str, engine: &Engine) -> LongText {
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
fn chunks_cover_the_text_end_at_sentences_and_have_similar_lengths() {
    let engine = engine(128);
    let text = SENTENCE.repeat(40);
    let chunks = split(&engine, &text).unwrap();
    assert!(chunks.len() > 4, "{}", chunks.len());
    let shortest = chunks.iter().map(|chunk| chunk.ids.len()).min().unwrap();
    let longest = chunks.iter().map(|chunk| chunk.ids.len()).max().unwrap();
    assert!(longest <= 128 && shortest > 64, "{shortest} {longest}");
    let prefix = &engine.info().prompt_prefix;
    let texts: Vec<String> = chunks
        .iter()
        .map(|chunk| {
            assert_eq!(chunk.truncated_tokens, 0);
            let text = engine.decode(&chunk.ids).unwrap();
            assert!(text.ends_with("lighthouse."), "{text}");
            text.strip_prefix(prefix.trim()).unwrap().trim().to_owned()
        })
        .collect();
    assert_eq!(texts.join(" "), text.trim());
}

#[test]
fn a_short_text_is_one_chunk_and_a_text_without_sentences_is_still_split() {
    let engine = engine(64);
    assert_eq!(split(&engine, SENTENCE).unwrap().len(), 1);
    for text in [
        "word ".repeat(400),
        "x".repeat(900),
        "旧港の橋を閉鎖する。".repeat(60),
        "line\n".repeat(300),
    ] {
        let chunks = split(&engine, &text).unwrap();
        assert!(chunks.len() > 1, "{text}");
        let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).count();
        let read: usize = chunks.iter().map(|chunk| chunk.tokens).sum();
        assert!(chunks.iter().all(|chunk| chunk.truncated_tokens == 0), "{text}");
        assert!(read > letters(&text) / 12, "{read} tokens of {text}");
    }
    assert!(split(&engine, "").unwrap().len() == 1);
}

#[tokio::test]
async fn chunk_summaries_are_summarized_and_a_repeated_seed_repeats_the_summary() {
    let engine = engine(96);
    let (progress, mut tokens) = mpsc::channel(1000);
    let text = SENTENCE.repeat(60);
    let mut long = long_text(&text, &engine);
    let (first, stats) = map_reduce(&engine, long.clone(), &progress).await.unwrap();
    assert!(stats.chunks > 8, "{stats:?}");
    assert!(!first.text.is_empty());
    assert_eq!(first.embedding.len(), engine.info().d_model);
    assert!(first.timings.decode > Duration::ZERO);
    tokens.close();
    long.params.do_sample = true;
    long.params.num_beams = 2;
    let (progress, _tokens) = mpsc::channel(1);
    let (sampled, _) = map_reduce(&engine, long.clone(), &progress).await.unwrap();
    long.params.seed = sampled.seed;
    let (again, _) = map_reduce(&engine, long.clone(), &progress).await.unwrap();
    assert_eq!((&sampled.ids, sampled.seed), (&again.ids, again.seed));
}

#[tokio::test]
async fn a_text_that_fits_gets_the_summary_of_an_ordinary_request() {
    let engine = engine(512);
    let (progress, _tokens) = mpsc::channel(1);
    let long = long_text(SENTENCE, &engine);
    let request = GenerateRequest::new(engine.tokenize(SENTENCE).unwrap(), long.params.clone());
    let (generated, stats) = map_reduce(&engine, long, &progress).await.unwrap();
    assert_eq!(stats, ChunkStats::default());
    let expected = engine.submit(&request).unwrap().result().await.unwrap();
    assert_eq!(
        (generated.ids.clone(), generated.embedding.clone()),
        (expected.ids, expected.embedding)
    );
}

#[tokio::test]
async fn levels_are_bounded_when_summaries_are_as_long_as_their_chunks() {
    let engine = engine(40);
    let (progress, _tokens) = mpsc::channel(1);
    let mut long = long_text(&SENTENCE.repeat(12), &engine);
    (long.params.min_new_tokens, long.params.max_new_tokens) = (60, 60);
    let (generated, stats) = map_reduce(&engine, long, &progress).await.unwrap();
    assert!(stats.truncated_tokens > 0, "{stats:?}");
    assert_eq!(generated.ids.len(), 60);
}
