//! Reads `spiece.model`, the tokenizer of T5 models without `tokenizer.json`: converts a SentencePiece unigram model
//! (Kudo 2018, <https://arxiv.org/abs/1804.10959>) to a tokenizer of the crate `tokenizers`.
//!
//! The file is a protocol buffer. Messages, field numbers and defaults follow
//! <https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>.

use std::collections::BTreeSet;

use prost::Message;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// SentencePiece's replacement for a space.
const SPACE: char = '▁';
/// Default number of T5 sentinels (`<extra_id_0>` and so on).
const USUAL_EXTRA_IDS: usize = 100;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    escape_whitespaces: Option<bool>,
}

/// `TrainerSpec.ModelType.UNIGRAM`.
const UNIGRAM: i32 = 1;

/// Piece type: `SentencePiece.Type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Piece {
    fn purpose(&self) -> Result<Kind, String> {
        Ok(match self.kind.unwrap_or(1) {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            other => return Err(format!("a piece has the unknown type {other}")),
        })
    }
}

/// Builds a tokenizer from the bytes of a `spiece.model`.
///
/// Appends `extra_ids` sentinels after the pieces. `None` means T5's hundred, if the vocabulary has room for them.
///
/// # Errors
/// A description of what is invalid or unsupported.
pub(crate) fn tokenizer(
    bytes: &[u8],
    extra_ids: Option<usize>,
    vocabulary: usize,
) -> Result<Tokenizer, String> {
    let proto = ModelProto::decode(bytes).map_err(|error| format!("not a SentencePiece model: {error}"))?;
    let trainer = proto.trainer.unwrap_or_default();
    if trainer.model_type.unwrap_or(UNIGRAM) != UNIGRAM {
        return Err("only SentencePiece's unigram models are supported".to_owned());
    }
    if trainer.treat_whitespace_as_suffix == Some(true) {
        return Err("SentencePiece models with white space as a suffix are not supported".to_owned());
    }
    let normalizer = proto.normalizer.unwrap_or_default();
    if normalizer.escape_whitespaces == Some(false) {
        return Err("SentencePiece models that don't escape white space are not supported".to_owned());
    }
    let extra_ids = extra_ids.unwrap_or_else(|| match proto.pieces.len() + USUAL_EXTRA_IDS <= vocabulary {
        true => USUAL_EXTRA_IDS,
        false => 0,
    });
    if extra_ids > vocabulary {
        return Err(format!(
            "{extra_ids} extra ids do not fit into a vocabulary of {vocabulary}"
        ));
    }
    let pieces = Pieces::of(&proto.pieces, extra_ids)?;
    // In nearly all models no piece spans a space. Then words can be tokenized one by one, and cached.
    let split = !proto.pieces.iter().any(Piece::has_inner_space);
    let byte_fallback = trainer.byte_fallback.unwrap_or(false);
    let model = Unigram::from(pieces.scores, Some(pieces.unknown), byte_fallback);
    let mut tokenizer = Tokenizer::new(model.map_err(|error| error.to_string())?);
    tokenizer
        .with_normalizer(Some(normalization(&normalizer)?))
        .map_err(|error| error.to_string())?;
    let prefix = match normalizer.add_dummy_prefix.unwrap_or(true) {
        true => PrependScheme::Always,
        false => PrependScheme::Never,
    };
    let metaspace = Metaspace::new(SPACE, prefix, split);
    tokenizer.with_pre_tokenizer(Some(metaspace.clone()));
    tokenizer.with_decoder(Some(match byte_fallback {
        true => DecoderWrapper::Sequence(Decoders::new(vec![ByteFallback::new().into(), metaspace.into()])),
        false => metaspace.into(),
    }));
    let added = |special| move |text: &String| AddedToken::from(text.clone(), special).normalized(false);
    let special: Vec<AddedToken> = pieces.special.iter().map(added(true)).collect();
    let own: Vec<AddedToken> = pieces.user_defined.iter().map(added(false)).collect();
    tokenizer
        .add_special_tokens(special)
        .and_then(|_| tokenizer.add_tokens(own))
        .map_err(|error| error.to_string())?;
    if let Some(end) = pieces.end {
        let template = TemplateProcessing::builder()
            .try_single("$A </s>")
            .and_then(|builder| builder.try_pair("$A </s> $B </s>"))?
            .special_tokens(vec![("</s>", end)])
            .build();
        tokenizer.with_post_processor(Some(template.map_err(|error| error.to_string())?));
    }
    Ok(tokenizer)
}

impl Piece {
    fn has_inner_space(&self) -> bool {
        let text = self.piece.as_deref().unwrap_or_default();
        text.chars().skip(1).any(|letter| letter == SPACE)
    }
}

/// The pieces, grouped by type.
struct Pieces {
    scores: Vec<(String, f64)>,
    unknown: usize,
    /// Id of `</s>`.
    end: Option<u32>,
    special: Vec<String>,
    user_defined: Vec<String>,
}

impl Pieces {
    fn of(pieces: &[Piece], extra_ids: usize) -> Result<Self, String> {
        let mut found = Self {
            scores: Vec::with_capacity(pieces.len() + extra_ids),
            unknown: usize::MAX,
            end: None,
            special: Vec::new(),
            user_defined: Vec::new(),
        };
        let mut lowest = f32::INFINITY;
        for piece in pieces
            .iter()
            .filter(|piece| matches!(piece.purpose(), Ok(Kind::Normal)))
        {
            lowest = lowest.min(piece.score.unwrap_or(0.0));
        }
        if !lowest.is_finite() {
            return Err("no pieces, or none with a score".to_owned());
        }
        let mut seen = BTreeSet::new();
        for (id, piece) in pieces.iter().enumerate() {
            let text = piece.piece.clone().unwrap_or_default();
            if text.is_empty() || !seen.insert(text.clone()) {
                return Err(format!("piece {id} is empty or a duplicate: {text:?}"));
            }
            let kind = piece.purpose()?;
            // Unused pieces get the lowest score, so that they never win and never make an unknown character cheaper.
            let score = match kind {
                Kind::Normal | Kind::UserDefined => piece.score.unwrap_or(0.0),
                _ => lowest,
            };
            match kind {
                Kind::Unknown => found.unknown = id,
                Kind::UserDefined => found.user_defined.push(text.clone()),
                Kind::Normal | Kind::Control | Kind::Unused | Kind::Byte => {}
            }
            if matches!(kind, Kind::Control | Kind::Unknown) {
                if text == "</s>" {
                    found.end = u32::try_from(id).ok();
                }
                found.special.push(text.clone());
            }
            let text = if kind == Kind::Unused {
                format!("\0unused {id}")
            } else {
                text
            };
            found.scores.push((text, f64::from(score)));
        }
        if found.unknown == usize::MAX {
            return Err("the vocabulary has no unknown piece".to_owned());
        }
        // The first sentinel has the highest id.
        for index in (0..extra_ids).rev() {
            let text = format!("<extra_id_{index}>");
            found.scores.push((text.clone(), f64::from(lowest)));
            found.special.push(text);
        }
        Ok(found)
    }
}

/// Checks the length of a character map against its length prefix, which its parser trusts.
pub(crate) fn check_charsmap(charsmap: &[u8]) -> Result<(), String> {
    match charsmap.split_first_chunk::<4>() {
        Some((length, rest)) if u32::from_le_bytes(*length) as usize <= rest.len() => Ok(()),
        _ => Err("the character map is truncated".to_owned()),
    }
}

/// Builds the normalization: the model's character map, and the removal of extra spaces.
fn normalization(spec: &NormalizerSpec) -> Result<Normalizers, String> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    let charsmap = spec.precompiled_charsmap.as_deref().unwrap_or_default();
    if !charsmap.is_empty() {
        check_charsmap(charsmap)?;
        let map = Precompiled::from(charsmap).map_err(|error| format!("invalid character map: {error:?}"))?;
        steps.push(map.into());
    }
    if spec.remove_extra_whitespaces.unwrap_or(true) {
        // Only U+0020: the character map has already replaced other white space.
        for (pattern, instead) in [("^ +| +$", ""), (" {2,}", " ")] {
            let replace = Replace::new(ReplacePattern::Regex(pattern.to_owned()), instead);
            steps.push(replace.map_err(|error| error.to_string())?.into());
        }
    }
    Ok(Normalizers::new(steps))
}

#[cfg(test)]
mod tests;
