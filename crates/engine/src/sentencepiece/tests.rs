//! Compares with the output of the `sentencepiece` library (`tests/golden/make_sentencepiece.py`).

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::config::ModelConfig;
use crate::source::{ChatFiles, TokenizerFile};
use crate::tokenize::{Prompt, TextTokenizer, Tokenize};

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn folder(file: &str) -> String {
    format!("{}/tests/golden/sentencepiece/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(folder(&format!("{name}.model"))).unwrap()
}

fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(folder(&format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns whether the text contains letters composed of several characters: stacked combining marks, conjoining Hangul
/// letters, half-width kana with a voicing mark. `tokenizers` normalizes whole grapheme clusters where SentencePiece
/// takes the longest known match; `tokenizer.json` files behave the same.
fn has_composed_letters(text: &str) -> bool {
    let is_mark = |letter: &char| ('\u{300}'..='\u{36f}').contains(letter);
    let letters: Vec<char> = text.chars().collect();
    let piled = letters.windows(2).any(|pair| pair.iter().all(is_mark));
    let joined = |letter: &char| matches!(letter, '\u{1100}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}');
    piled || letters.iter().any(joined)
}

#[test]
fn ids_and_texts_equal_those_of_sentencepiece() {
    for (name, vocabulary) in [("t5", 400), ("umt5", 1600)] {
        let tokenizer = tokenizer(&model(name), None, vocabulary).unwrap();
        let cases = cases(name);
        assert!(cases.len() > 400);
        let mut differences = Vec::new();
        let mut composed = 0;
        for case in &cases {
            let encoding = tokenizer.encode_fast(case.text.as_str(), true).unwrap();
            let (end, ids) = encoding.get_ids().split_last().unwrap();
            assert_eq!(*end, 1);
            if ids != case.ids && has_composed_letters(&case.text) {
                composed += 1;
                continue;
            }
            if ids != case.ids {
                differences.push(format!("{:?}: {ids:?} and not {:?}", case.text, case.ids));
                continue;
            }
            // Unknown ids cannot be decoded.
            if !ids.contains(&2) {
                let decoded = tokenizer.decode(ids, true).unwrap();
                assert_eq!(decoded.trim(), case.decoded.trim(), "{:?}", case.text);
            }
        }
        assert!(
            composed <= 9,
            "{name}: {composed} texts with composed letters are read otherwise"
        );
        assert!(
            differences.is_empty(),
            "{name}: {} of {}\n{}",
            differences.len(),
            cases.len(),
            differences.join("\n")
        );
    }
}

#[test]
fn sentinels_follow_the_pieces_in_reverse_order() {
    let made = tokenizer(&model("t5"), None, 400).unwrap();
    assert_eq!(made.get_vocab_size(true), 380);
    assert_eq!(made.token_to_id("<extra_id_0>"), Some(379));
    assert_eq!(made.token_to_id("<extra_id_99>"), Some(280));
    let encoding = made.encode_fast("<extra_id_0>", false).unwrap();
    assert_eq!(encoding.get_ids(), [379]);
    // No room for sentinels, or none requested.
    assert_eq!(
        tokenizer(&model("t5"), None, 300).unwrap().get_vocab_size(true),
        280
    );
    assert_eq!(
        tokenizer(&model("t5"), Some(20), 300)
            .unwrap()
            .get_vocab_size(true),
        300
    );
}

fn piece(text: &str, kind: i32) -> Piece {
    Piece {
        piece: Some(text.to_owned()),
        score: Some(-1.0),
        kind: Some(kind),
    }
}

fn refused(change: impl FnOnce(&mut ModelProto)) -> String {
    let mut proto = ModelProto {
        pieces: vec![piece("<unk>", 2), piece("</s>", 3), piece("▁a", 1)],
        ..Default::default()
    };
    change(&mut proto);
    tokenizer(&proto.encode_to_vec(), Some(0), 10)
        .err()
        .unwrap_or_default()
}

#[test]
fn unreadable_files_name_the_problem() {
    assert_eq!(refused(|_| {}), "");
    assert!(refused(|proto| proto.pieces.clear()).contains("no pieces"));
    assert!(refused(|proto| proto.pieces[0].kind = Some(1)).contains("unknown"));
    assert!(refused(|proto| proto.pieces.push(piece("▁b", 9))).contains("type 9"));
    assert!(refused(|proto| proto.pieces.push(piece("▁a", 1))).contains("a duplicate"));
    let trainer = |trainer: TrainerSpec| refused(|proto| proto.trainer = Some(trainer));
    assert!(
        trainer(TrainerSpec {
            model_type: Some(2),
            ..Default::default()
        })
        .contains("unigram")
    );
    let normalizer = NormalizerSpec {
        precompiled_charsmap: Some(vec![1, 2, 3]),
        ..Default::default()
    };
    assert!(refused(|proto| proto.normalizer = Some(normalizer)).contains("character map"));
    assert!(
        tokenizer(b"\xff\xff", None, 10)
            .unwrap_err()
            .contains("not a SentencePiece model")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A damaged file is refused or read in some way, but nothing panics, not even in use.
    #[test]
    fn damaged_files_never_panic(place in 0usize..260_000, byte: u8, cut in 0usize..260_000) {
        let mut bytes = model("t5");
        // Half of the positions lie in the file's first bytes, where the lengths are.
        let place = if place % 2 == 0 { place % 3000 } else { place % bytes.len() };
        bytes[place] = byte;
        bytes.truncate(if cut % 3 == 0 { cut % bytes.len() } else { bytes.len() });
        let config = r#"{"model_type":"t5","vocab_size":400,"d_model":8,"d_kv":4,"d_ff":16,"num_layers":1,
            "num_heads":2,"relative_attention_num_buckets":32}"#;
        let config = ModelConfig::from_json(config.as_bytes()).unwrap();
        let file = TokenizerFile::SentencePiece { model: bytes, config: None };
        if let Ok(made) = TextTokenizer::new(&file, &ChatFiles::default(), &config, &Prompt::default(), 512) {
            let _ = made.encode("The bridge \u{fb01} will close.");
        }
    }
}
