//! Compares SmolLM2-135M-Instruct's real weights with transformers (`tests/golden/make_smollm2.py`). The installer
//! downloads the model once, and checks it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use precis_engine::{Engine, EngineOptions, GenerateRequest, ModelSource, Prompt};
use precis_installer::Installer;
use serde::Deserialize;
use serde_json::Value;

use crate::common::tiny_folder;
use crate::golden::params;

/// A part of an article, as a character range, or the first articles joined.
#[derive(Deserialize)]
struct Line {
    article: usize,
    #[serde(default)]
    begin: usize,
    end: Option<usize>,
    copies: Option<usize>,
    tokens: usize,
    checksum: u32,
    searches: Vec<Search>,
}

#[derive(Deserialize)]
struct Search {
    params: BTreeMap<String, Value>,
    ids: Vec<u32>,
}

fn engine() -> Arc<Engine> {
    static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
        let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.local");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let file = runtime
            .block_on(Installer::new(local).ensure_smollm2())
            .unwrap_or_else(|error| panic!("these tests need SmolLM2-135M-Instruct, once: {error}"));
        let options = EngineOptions {
            device: "cpu".parse().unwrap(),
            prompt: Prompt {
                system: "You summarize news articles in one sentence.".to_owned(),
                user: "Summarize this article in one sentence:\n\n{{ text }}".to_owned(),
            },
            ..Default::default()
        };
        Arc::new(Engine::load(&ModelSource::Path(file), &options).unwrap())
    });
    ENGINE.clone()
}

fn lines() -> Vec<Line> {
    let text = std::fs::read_to_string(tiny_folder("smollm2.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Of longer prompts, every fourth is summarized, unless `PRECIS_ALL_CASES` is set. All of them take minutes.
const SHORT_TOKENS: usize = 150;

const ARTICLES: &str = include_str!("../../../../samples/articles.jsonl");

fn text_of(line: &Line) -> String {
    let articles: Vec<String> = ARTICLES
        .lines()
        .map(|line| {
            let article: Value = serde_json::from_str(line).unwrap();
            article["article"].as_str().unwrap().to_owned()
        })
        .collect();
    match line.copies {
        Some(copies) => articles[..copies].join(" "),
        None => {
            let characters = articles[line.article].chars().skip(line.begin);
            characters.take(line.end.unwrap() - line.begin).collect()
        }
    }
}

fn checksum(ids: &[u32]) -> u32 {
    ids.iter()
        .fold(0, |total: u32, id| total.wrapping_mul(31).wrapping_add(*id))
}

#[test]
fn the_file_describes_the_model() {
    let engine = engine();
    let info = engine.info();
    assert_eq!((info.architecture, info.parameters), ("llama", 134_515_008));
    assert_eq!((info.vocabulary, info.max_input_tokens), (49_152, 8_192 - 512));
    assert_eq!(engine.default_params().num_beams, 1);
}

#[test]
fn prompts_and_tokens_equal_transformers() {
    let engine = engine();
    let lines = lines();
    assert!(lines.len() >= 200, "{}", lines.len());
    let all = std::env::var_os("PRECIS_ALL_CASES").is_some();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (index, line) in lines.into_iter().enumerate() {
        let encoded = engine.tokenize(&text_of(&line)).unwrap();
        assert_eq!(
            (encoded.ids.len(), checksum(&encoded.ids)),
            (line.tokens, line.checksum),
            "article {}, {} to {:?}",
            line.article,
            line.begin,
            line.end
        );
        if !all && line.tokens > SHORT_TOKENS && index % 4 != 1 {
            continue;
        }
        for search in line.searches {
            requests.push(GenerateRequest::new(encoded.clone(), params(&search.params)));
            expected.push((line.tokens, search));
        }
    }
    assert!(requests.len() > 100, "{}", requests.len());
    let results = engine.generate_batch(&requests, &mut ());
    let differences: Vec<String> = results
        .into_iter()
        .zip(&expected)
        .filter_map(|(result, (tokens, search))| {
            let found = result.unwrap().ids;
            (found != search.ids).then(|| {
                format!(
                    "{tokens} tokens, {:?}: {found:?} and not {:?}",
                    search.params, search.ids
                )
            })
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {}:\n{}",
        differences.len(),
        expected.len(),
        differences.join("\n")
    );
}
