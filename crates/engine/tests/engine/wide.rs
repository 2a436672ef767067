//! Compares many inputs of 1 to 512 tokens with transformers (`tests/golden/make_wide.py`): small random models of
//! every kind, and the embedded model on parts of the sample articles. All requests of a model form one batch.

use std::collections::BTreeMap;

use precis_engine::{Engine, GenerateRequest, Generated};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::common::{encoded, mini, tiny, tiny_folder};
use crate::golden::params;

#[derive(Deserialize)]
struct Line {
    input_ids: Vec<u32>,
    searches: Vec<Expected>,
}

/// A part of an article, as a character range.
#[derive(Deserialize)]
struct Part {
    article: usize,
    begin: usize,
    end: usize,
    tokens: usize,
    searches: Vec<Expected>,
}

/// The expected sequences, best first.
#[derive(Deserialize)]
struct Expected {
    params: BTreeMap<String, Value>,
    ids: Vec<Vec<u32>>,
    scores: Vec<f32>,
}

fn lines<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = tiny_folder(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the difference of a result, if any.
fn difference(found: &Generated, expected: &Expected) -> Option<String> {
    let mut sequences = vec![(&found.ids, found.score)];
    sequences.extend(found.alternatives.iter().map(|other| (&other.ids, other.score)));
    let ids: Vec<&Vec<u32>> = sequences.iter().map(|(ids, _)| *ids).collect();
    if ids != expected.ids.iter().collect::<Vec<_>>() {
        return Some(format!(
            "{:?}: {ids:?} and not {:?}",
            expected.params, expected.ids
        ));
    }
    let far = sequences
        .iter()
        .zip(&expected.scores)
        .find(|((_, score), expected)| (score - *expected).abs() > 1e-4 * expected.abs().max(1.0));
    far.map(|((_, score), expected)| format!("score {score} and not {expected}"))
}

fn assert_all_equal(engine: &Engine, what: &str, cases: Vec<(Vec<u32>, Vec<Expected>)>) -> usize {
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (ids, searches) in cases {
        for search in searches {
            requests.push(GenerateRequest::new(encoded(&ids), params(&search.params)));
            expected.push((ids.len(), search));
        }
    }
    let results = engine.generate_batch(&requests, &mut ());
    let differences: Vec<String> = results
        .into_iter()
        .zip(&expected)
        .filter_map(|(result, (tokens, search))| {
            let difference = difference(&result.unwrap(), search)?;
            Some(format!("{what}, {tokens} tokens: {difference}"))
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {}:\n{}",
        differences.len(),
        expected.len(),
        differences.join("\n")
    );
    expected.len()
}

#[test]
fn small_models_equal_transformers_at_all_lengths() {
    let mut inputs = 0;
    for kind in ["t5", "t5-v1_1", "mt5", "umt5"] {
        let cases: Vec<Line> = lines(&format!("{kind}/wide.jsonl"));
        let lengths = || cases.iter().map(|case| case.input_ids.len());
        assert_eq!((lengths().min(), lengths().max()), (Some(1), Some(512)));
        inputs += cases.len();
        let cases = cases
            .into_iter()
            .map(|case| (case.input_ids, case.searches))
            .collect();
        let searches = assert_all_equal(&tiny(kind), kind, cases);
        assert!(searches > 150, "{kind}: {searches}");
    }
    assert!(inputs >= 200, "{inputs}");
}

const ARTICLES: &str = include_str!("../../../../samples/articles.jsonl");

#[test]
fn the_embedded_model_equals_transformers_on_parts_of_articles() {
    let engine = mini();
    let articles: Vec<Vec<char>> = ARTICLES
        .lines()
        .map(|line| {
            let article: Value = serde_json::from_str(line).unwrap();
            article["article"].as_str().unwrap().chars().collect()
        })
        .collect();
    let parts: Vec<Part> = lines("precis-mini.jsonl");
    assert!(parts.len() >= 200, "{}", parts.len());
    let cases = parts
        .into_iter()
        .map(|part| {
            let text: String = articles[part.article][part.begin..part.end].iter().collect();
            let ids = engine.tokenize(&text).unwrap().ids;
            assert_eq!(ids.len(), part.tokens, "{text}");
            (ids, part.searches)
        })
        .collect();
    assert_all_equal(&engine, "precis-mini", cases);
}
