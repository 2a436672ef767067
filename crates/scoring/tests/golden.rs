//! Compares ROUGE and BLEU with the Python packages that `data/README.md` names.

mod common;

use common::{close, read_lines};
use precis_scoring::{Rouge, RougeScores, bleu, bleu::tokenize_13a};
use rougers::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    id: String,
    prediction: String,
    reference: String,
    rouge: RougeScores,
    rouge_stemmed: RougeScores,
    sacrebleu: Bleu,
}

#[derive(Deserialize)]
struct Bleu {
    score: f64,
    counts: [u64; 4],
    totals: [u64; 4],
    precisions: [f64; 4],
    bp: f64,
    sys_len: u64,
    ref_len: u64,
}

#[derive(Deserialize)]
struct Tokens {
    text: String,
    rouge: Vec<String>,
    rouge_stemmed: Vec<String>,
    bleu_13a: Vec<String>,
}

fn cases() -> Vec<Case> {
    let cases = read_lines("golden.jsonl");
    assert_eq!(cases.len(), 125);
    cases
}

/// Returns every value as bits, so that equality is exact.
fn bits(scores: &RougeScores) -> Vec<u64> {
    [scores.rouge1, scores.rouge2, scores.rouge_l, scores.rouge_lsum]
        .iter()
        .flat_map(|prf| [prf.precision, prf.recall, prf.fmeasure].map(f64::to_bits))
        .collect()
}

#[test]
fn rouge_equals_rouge_score_to_the_last_bit() {
    let (plain, stemmed) = (Rouge::new(false), Rouge::new(true));
    for case in cases() {
        let found = plain.score(&case.reference, &case.prediction);
        assert_eq!(bits(&found), bits(&case.rouge), "{}: {found:?}", case.id);
        let found = stemmed.score(&case.reference, &case.prediction);
        assert_eq!(
            bits(&found),
            bits(&case.rouge_stemmed),
            "{} stemmed: {found:?}",
            case.id
        );
    }
}

#[test]
fn bleu_equals_sacrebleu() {
    for case in cases() {
        let found = bleu(&case.reference, &case.prediction);
        let Bleu {
            score,
            counts,
            totals,
            precisions,
            bp,
            sys_len,
            ref_len,
        } = case.sacrebleu;
        let (id, made) = (
            &case.id,
            (found.counts, found.totals, found.sys_len, found.ref_len),
        );
        assert_eq!(made, (counts, totals, sys_len, ref_len), "{id}");
        assert!(
            close(found.score, score) && close(found.bp, bp),
            "{id}: {found:?}, not {score} {bp}"
        );
        for (found, expected) in found.precisions.iter().zip(precisions) {
            assert!(close(*found, expected), "{id}: {found}, not {expected}");
        }
    }
}

#[test]
fn tokens_equal_those_of_the_python_packages() {
    let cases: Vec<Tokens> = read_lines("tokens.jsonl");
    assert_eq!(cases.len(), 212);
    for Tokens {
        text,
        rouge,
        rouge_stemmed,
        bleu_13a,
    } in cases
    {
        assert_eq!(tokenize_13a(&text), bleu_13a, "{text:?}");
        // Detects a new version of the crate that changes a tokenizer.
        assert_eq!(Tokenizer::new(false).tokenize(&text), rouge, "{text:?}");
        assert_eq!(Tokenizer::new(true).tokenize(&text), rouge_stemmed, "{text:?}");
    }
}

#[test]
fn scores_keep_the_names_of_the_python_package() {
    let scores = Rouge::default().score("the cat sat", "the cat");
    let json = serde_json::to_value(scores).unwrap();
    let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["rouge1", "rouge2", "rougeL", "rougeLsum"]);
    assert_eq!(json["rougeL"]["precision"], 1.0);
    assert_eq!(serde_json::from_value::<RougeScores>(json).unwrap(), scores);
    let flat = serde_json::to_value(scores.fmeasures()).unwrap();
    assert_eq!(flat["rougeLsum"], 0.8);
}
