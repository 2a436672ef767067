//! A text that has more tokens than the model reads, in parts (`params.long_text = map_reduce`): it is split on sentences,
//! the parts are summarized together, and their summaries, one after the other, are summarized like any text. If those
//! are still too long for that, they are split in their turn, up to [`MOST_LEVELS`] times.
//!
//! Everything happens inside the job: its deadline, its cancellation and its place in the model hold for all parts.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use precis_engine::{
    Encoded, Engine, GenerateRequest, Generated, GenerationParams as EngineParams, RowError, StopRule,
};
use precis_scoring::sentence::{Rules, sentence_ranges};
use tokio::sync::mpsc;

use super::infer::finished;

/// How often summaries may be split and summarized again; what is then still too long is cut.
pub const MOST_LEVELS: usize = 4;
/// Parts of one text that the engine is given at a time, so that a book leaves room for others.
const PARTS_AT_A_TIME: usize = 8;
/// A model that reads fewer tokens than this besides its prompt has no use for parts.
const LEAST_ROOM: usize = 16;

/// A long text and how it is to be summarized.
#[derive(Clone)]
pub struct LongText {
    /// The text.
    pub text: String,
    /// How every part, and the text of their summaries, is summarized.
    pub params: EngineParams,
    /// When a summary is long enough.
    pub stop: Option<StopRule>,
    /// What is kept of a part's summary.
    pub keep: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

/// How a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Parts that were summarized, of all levels.
    pub parts: usize,
    /// Tokens of the last text that were cut off because it was still too long.
    pub truncated_tokens: usize,
}

/// Summarizes a text in parts. `told` gets the tokens of the last summary as they come. The embedding of the result is
/// the mean over the whole text; its times are those of all levels.
///
/// # Errors
/// The first error of any part.
pub async fn map_reduce(
    engine: &Arc<Engine>,
    long: LongText,
    told: &mpsc::Sender<Arc<[u32]>>,
) -> Result<(Box<Generated>, Reading), RowError> {
    let begun = Instant::now();
    let LongText {
        mut text,
        mut params,
        stop,
        keep,
    } = long;
    // Without a seed of its own, one is drawn for the whole: what is reported makes the same summary again.
    if params.do_sample && params.seed.is_none() {
        params.seed = Some(uuid::Uuid::now_v7().as_u64_pair().1);
    }
    let mut reading = Reading::default();
    let mut embedding = None;
    let (mut wait, mut encode, mut steps) = (None, Duration::ZERO, 0);
    for level in 0..MOST_LEVELS {
        let parts = split_elsewhere(engine, text.clone()).await?;
        if parts.len() < 2 {
            break;
        }
        let requests = parts.iter().enumerate().map(|(index, part)| {
            let mut request = GenerateRequest::new(part.clone(), params.clone());
            request.params.seed = params.seed.map(|seed| seed_of_part(seed, level, index));
            request.stop.clone_from(&stop);
            summarize(engine.clone(), request)
        });
        // Made before anything is awaited: then the whole may go from thread to thread.
        let requests: Vec<_> = requests.collect();
        let summaries: Vec<Generated> = stream::iter(requests)
            .buffered(PARTS_AT_A_TIME)
            .try_collect()
            .await?;
        reading.parts += parts.len();
        wait = wait.or(summaries.first().map(|first| first.timings.wait));
        encode += summaries
            .iter()
            .map(|summary| summary.timings.encode)
            .max()
            .unwrap_or_default();
        steps += summaries.iter().map(|summary| summary.steps).sum::<usize>();
        embedding.get_or_insert_with(|| mean_embedding(&parts, &summaries));
        let joined: Vec<String> = summaries.iter().map(|summary| keep(&summary.text)).collect();
        let joined = joined.join(" ");
        // A model that has nothing to say of any part gets the beginning of the text.
        if joined.trim().is_empty() {
            break;
        }
        text = joined;
    }
    let encoded = engine.tokenize(&text)?;
    reading.truncated_tokens = encoded.truncated_tokens;
    let mut request = GenerateRequest::new(encoded, params);
    request.stop = stop;
    let mut last = finished(engine.submit(&request)?, told).await?;
    if let Some(embedding) = embedding {
        last.embedding = embedding;
    }
    last.timings.wait = wait.unwrap_or(last.timings.wait);
    last.timings.encode += encode;
    last.timings.decode = begun
        .elapsed()
        .saturating_sub(last.timings.wait + last.timings.encode);
    last.steps += steps;
    Ok((last, reading))
}

/// Submits when it is first polled, not before.
async fn summarize(engine: Arc<Engine>, request: GenerateRequest) -> Result<Generated, RowError> {
    engine.submit(&request)?.result().await
}

/// Another seed for every part; the text of the summaries has the job's own.
fn seed_of_part(seed: u64, level: usize, index: usize) -> u64 {
    let part = (level as u64 + 1) << 32 | index as u64;
    seed.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Mean of the parts' embeddings, each as often as it has tokens.
fn mean_embedding(parts: &[Encoded], summaries: &[Generated]) -> Arc<[f32]> {
    let width = summaries.first().map_or(0, |first| first.embedding.len());
    let (mut mean, mut tokens) = (vec![0f32; width], 0f32);
    for (part, summary) in parts.iter().zip(summaries) {
        let own = part.ids.len() as f32;
        mean.iter_mut()
            .zip(summary.embedding.iter())
            .for_each(|(sum, value)| *sum += own * value);
        tokens += own;
    }
    mean.iter_mut().for_each(|sum| *sum /= tokens.max(1.0));
    mean.into()
}

/// [`split`] on a thread for blocking work: a long text takes a while.
async fn split_elsewhere(engine: &Arc<Engine>, text: String) -> Result<Vec<Encoded>, RowError> {
    let engine = engine.clone();
    match tokio::task::spawn_blocking(move || split(&engine, &text)).await {
        Ok(parts) => parts,
        Err(panic) => Err(RowError::Tokenize(panic.to_string())),
    }
}

/// The parts of a text, each of which the model can read, about equally long; one if the text needs no splitting.
///
/// # Errors
/// When the tokenizer refuses the text.
pub fn split(engine: &Engine, text: &str) -> Result<Vec<Encoded>, RowError> {
    let whole = engine.tokenize(text)?;
    let prompt = engine.tokenize("")?.tokens;
    let room = engine.info().max_input_tokens.saturating_sub(prompt);
    if whole.truncated_tokens == 0 || room < LEAST_ROOM {
        return Ok(vec![whole]);
    }
    let tokens = |range: &Range<usize>| {
        let encoded = engine.tokenize(&text[range.clone()])?;
        Ok::<usize, RowError>(encoded.tokens.saturating_sub(prompt))
    };
    let mut units = Vec::new();
    cut(text, 0..text.len(), Cut::Sentences, room, &tokens, &mut units)?;
    let total: usize = units.iter().map(|(_, tokens)| tokens).sum();
    let wanted = total.div_ceil(total.div_ceil(room).max(1));
    let mut parts = Vec::new();
    let (mut part, mut filled): (Option<Range<usize>>, usize) = (None, 0);
    for (unit, tokens) in units {
        match &mut part {
            Some(part) if filled + tokens <= room && filled < wanted => {
                part.end = unit.end;
                filled += tokens;
            }
            _ => {
                parts.extend(part.replace(unit));
                filled = tokens;
            }
        }
    }
    parts.extend(part);
    parts
        .into_iter()
        .map(|part| engine.tokenize(&text[part]))
        .collect()
}

/// Where a text is cut, from where it does least harm to where there is nothing else.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Sentences,
    /// Lines, and the full stops of scripts without spaces.
    Stops,
    Words,
    Letters,
}

/// Cuts a range of the text into units of at most `room` tokens, with their numbers of tokens.
fn cut(
    text: &str,
    range: Range<usize>,
    at: Cut,
    room: usize,
    tokens: &dyn Fn(&Range<usize>) -> Result<usize, RowError>,
    units: &mut Vec<(Range<usize>, usize)>,
) -> Result<(), RowError> {
    let own = &text[range.clone()];
    let from = |pieces: Vec<Range<usize>>| {
        let moved = move |piece: Range<usize>| range.start + piece.start..range.start + piece.end;
        pieces.into_iter().map(moved).collect::<Vec<_>>()
    };
    let (pieces, next) = match at {
        Cut::Sentences => (from(sentence_ranges(own, Rules::Extended)), Cut::Stops),
        Cut::Stops => (
            from(pieces(own, |letter| "\n。！？；।".contains(letter))),
            Cut::Words,
        ),
        Cut::Words => (from(pieces(own, char::is_whitespace)), Cut::Letters),
        Cut::Letters => (from(halves(own)), Cut::Letters),
    };
    for piece in pieces {
        if text[piece.clone()].trim().is_empty() {
            continue;
        }
        let count = tokens(&piece)?;
        if count <= room || text[piece.clone()].chars().nth(1).is_none() {
            units.push((piece, count));
        } else {
            cut(text, piece, next, room, tokens, units)?;
        }
    }
    Ok(())
}

/// The pieces of a text that end with such a letter.
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

/// Both halves of a text.
fn halves(text: &str) -> Vec<Range<usize>> {
    let middle = text.chars().count() / 2;
    let middle = text
        .char_indices()
        .nth(middle)
        .map_or(text.len(), |(place, _)| place);
    vec![0..middle, middle..text.len()]
}

#[cfg(test)]
mod tests;
