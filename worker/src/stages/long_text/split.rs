//! Splits a text into chunks that the model can read.

use std::ops::Range;

use precis_engine::{Encoded, Engine, RowError};
use precis_scoring::sentence::{Rules, sentence_ranges};

/// A model that reads fewer tokens than this besides its prompt gets no chunks.
const MIN_CHUNK_TOKENS: usize = 16;

/// Splits a text into chunks of about equal length that the model can read. A text that fits is one chunk.
///
/// # Errors
/// When the tokenizer fails.
pub(super) fn split(engine: &Engine, text: &str) -> Result<Vec<Encoded>, RowError> {
    let whole = engine.tokenize(text)?;
    let prompt = engine.tokenize("")?.tokens;
    let max_tokens = engine.info().max_input_tokens.saturating_sub(prompt);
    if whole.truncated_tokens == 0 || max_tokens < MIN_CHUNK_TOKENS {
        return Ok(vec![whole]);
    }
    let count_tokens = |range: &Range<usize>| {
        let encoded = engine.tokenize(&text[range.clone()])?;
        Ok::<usize, RowError>(encoded.tokens.saturating_sub(prompt))
    };
    let mut units = Vec::new();
    let all = 0..text.len();
    cut(
        text,
        all,
        Boundary::Sentence,
        max_tokens,
        &count_tokens,
        &mut units,
    )?;
    let total: usize = units.iter().map(|(_, tokens)| tokens).sum();
    let target = total.div_ceil(total.div_ceil(max_tokens).max(1));
    let mut chunks = Vec::new();
    let (mut chunk, mut filled): (Option<Range<usize>>, usize) = (None, 0);
    for (unit, tokens) in units {
        match &mut chunk {
            Some(chunk) if filled + tokens <= max_tokens && filled < target => {
                chunk.end = unit.end;
                filled += tokens;
            }
            _ => {
                chunks.extend(chunk.replace(unit));
                filled = tokens;
            }
        }
    }
    chunks.extend(chunk);
    chunks
        .into_iter()
        .map(|chunk| engine.tokenize(&text[chunk]))
        .collect()
}

/// Where a text may be cut, from the best place to the last resort.
#[derive(Debug, Clone, Copy)]
enum Boundary {
    Sentence,
    /// A line, or a full stop of a script without spaces.
    Stop,
    Word,
    Character,
}

/// Cuts a range of the text into units of at most `max_tokens` tokens. Adds them to `units` with their token counts.
fn cut(
    text: &str,
    range: Range<usize>,
    boundary: Boundary,
    max_tokens: usize,
    count_tokens: &dyn Fn(&Range<usize>) -> Result<usize, RowError>,
    units: &mut Vec<(Range<usize>, usize)>,
) -> Result<(), RowError> {
    let part = &text[range.clone()];
    let (pieces, next) = match boundary {
        Boundary::Sentence => (sentence_ranges(part, Rules::Extended), Boundary::Stop),
        Boundary::Stop => (
            pieces(part, |character| "\n。！？；।".contains(character)),
            Boundary::Word,
        ),
        Boundary::Word => (pieces(part, char::is_whitespace), Boundary::Character),
        Boundary::Character => (halves(part), Boundary::Character),
    };
    for piece in pieces {
        let piece = range.start + piece.start..range.start + piece.end;
        if text[piece.clone()].trim().is_empty() {
            continue;
        }
        let tokens = count_tokens(&piece)?;
        let is_one_character = text[piece.clone()].chars().nth(1).is_none();
        if tokens <= max_tokens || is_one_character {
            units.push((piece, tokens));
        } else {
            cut(text, piece, next, max_tokens, count_tokens, units)?;
        }
    }
    Ok(())
}

/// Returns the ranges of a text that end with a matching character.
fn pieces(text: &str, ends: impl Fn(char) -> bool) -> Vec<Range<usize>> {
    let mut start = 0;
    text.split_inclusive(ends)
        .map(|piece| {
            let range = start..start + piece.len();
            start = range.end;
            range
        })
        .collect()
}

/// Returns both halves of a text.
fn halves(text: &str) -> Vec<Range<usize>> {
    let middle = text.chars().count() / 2;
    let middle = text
        .char_indices()
        .nth(middle)
        .map_or(text.len(), |(index, _)| index);
    vec![0..middle, middle..text.len()]
}
