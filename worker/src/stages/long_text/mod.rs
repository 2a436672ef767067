//! Stage 5, for texts that are longer than the model reads (`params.long_text = map_reduce`).
//!
//! The text is split into chunks on sentence boundaries. The chunks are summarized, and their joined summaries are
//! summarized again. Joined summaries that are still too long are split in turn, up to [`MAX_LEVELS`] times.
//!
//! All chunks belong to one job: its deadline, its cancellation and its permit cover them all.

mod split;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use precis_engine::{
    Encoded, Engine, GenerateRequest, Generated, GenerationParams as EngineParams, RowError, StopRule,
};
use precis_runtime::clock::Instant;
use tokio::sync::mpsc;

use self::split::split;
use super::generation::complete;

/// How often joined summaries may be split again. After that, the text is truncated.
pub const MAX_LEVELS: usize = 4;
/// Chunks of one text in the engine at a time, so that a book leaves room for other jobs.
const MAX_PARALLEL_CHUNKS: usize = 8;

/// A long text and how to summarize it.
#[derive(Clone)]
pub struct LongText {
    /// The text.
    pub text: String,
    /// Parameters for the chunks and for their joined summaries.
    pub params: EngineParams,
    /// Stops generation early.
    pub stop: Option<StopRule>,
    /// Cuts a generated text to the summary of its chunk.
    pub keep: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

impl std::fmt::Debug for LongText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongText")
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// How a text was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkStats {
    /// Chunks of all levels.
    pub chunks: usize,
    /// Tokens that were cut off the last joined summaries.
    pub truncated_tokens: usize,
}

/// Summarizes a text in chunks. `progress` receives the tokens of the final summary as they are generated.
///
/// The embedding of the result is the mean over the whole text. Its timings cover all levels.
///
/// # Errors
/// The first error of any chunk.
pub async fn map_reduce(
    engine: &Arc<Engine>,
    long_text: LongText,
    progress: &mpsc::Sender<Arc<[u32]>>,
) -> Result<(Box<Generated>, ChunkStats), RowError> {
    let start = Instant::now();
    let LongText {
        mut text,
        mut params,
        stop,
        keep,
    } = long_text;
    // One seed for the whole text: a client that repeats the reported seed gets the same summary.
    if params.do_sample && params.seed.is_none() {
        params.seed = Some(uuid::Uuid::now_v7().as_u64_pair().1);
    }
    let mut stats = ChunkStats::default();
    let mut embedding = None;
    let (mut wait, mut encode, mut steps) = (None, Duration::ZERO, 0);
    for level in 0..MAX_LEVELS {
        let chunks = split_on_blocking_thread(engine, text.clone()).await?;
        if chunks.len() < 2 {
            break;
        }
        let requests = chunks.iter().enumerate().map(|(index, chunk)| {
            let mut request = GenerateRequest::new(chunk.clone(), params.clone());
            request.params.seed = params.seed.map(|seed| chunk_seed(seed, level, index));
            request.stop.clone_from(&stop);
            summarize(engine.clone(), request)
        });
        // Collected before the first await: the iterator borrows and is not `Send`.
        let requests: Vec<_> = requests.collect();
        let summaries: Vec<Generated> = stream::iter(requests)
            .buffered(MAX_PARALLEL_CHUNKS)
            // A receiver that is still busy has other progress to report.
            .inspect_ok(|_| drop(progress.try_send(Arc::from([]))))
            .try_collect()
            .await?;
        stats.chunks += chunks.len();
        wait = wait.or(summaries.first().map(|first| first.timings.wait));
        encode += summaries
            .iter()
            .map(|summary| summary.timings.encode)
            .max()
            .unwrap_or_default();
        steps += summaries.iter().map(|summary| summary.steps).sum::<usize>();
        embedding.get_or_insert_with(|| mean_embedding(&chunks, &summaries));
        let joined: Vec<String> = summaries.iter().map(|summary| keep(&summary.text)).collect();
        let joined = joined.join(" ");
        // If every chunk's summary is empty, the start of the text is summarized instead.
        if joined.trim().is_empty() {
            break;
        }
        text = joined;
    }
    let encoded = engine.tokenize(&text)?;
    stats.truncated_tokens = encoded.truncated_tokens;
    let mut request = GenerateRequest::new(encoded, params);
    request.stop = stop;
    let mut last = complete(engine.submit(&request)?, progress, || {}).await?;
    if let Some(embedding) = embedding {
        last.embedding = embedding;
    }
    last.timings.wait = wait.unwrap_or(last.timings.wait);
    last.timings.encode += encode;
    last.timings.decode = start
        .elapsed()
        .saturating_sub(last.timings.wait + last.timings.encode);
    last.steps += steps;
    Ok((last, stats))
}

/// Submits the request when first polled, so that `buffered` limits the requests in the engine.
async fn summarize(engine: Arc<Engine>, request: GenerateRequest) -> Result<Generated, RowError> {
    engine.submit(&request)?.result().await
}

/// Returns a different seed for each chunk. The joined summaries use the job's own seed.
fn chunk_seed(seed: u64, level: usize, index: usize) -> u64 {
    let chunk = (level as u64 + 1) << 32 | index as u64;
    seed.wrapping_add(chunk.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Returns the mean of the chunks' embeddings, weighted by their numbers of tokens.
fn mean_embedding(chunks: &[Encoded], summaries: &[Generated]) -> Arc<[f32]> {
    let width = summaries.first().map_or(0, |first| first.embedding.len());
    let (mut mean, mut tokens) = (vec![0f32; width], 0f32);
    for (chunk, summary) in chunks.iter().zip(summaries) {
        let weight = chunk.ids.len() as f32;
        mean.iter_mut()
            .zip(summary.embedding.iter())
            .for_each(|(sum, value)| *sum += weight * value);
        tokens += weight;
    }
    mean.iter_mut().for_each(|sum| *sum /= tokens.max(1.0));
    mean.into()
}

async fn split_on_blocking_thread(engine: &Arc<Engine>, text: String) -> Result<Vec<Encoded>, RowError> {
    let engine = engine.clone();
    match tokio::task::spawn_blocking(move || split(&engine, &text)).await {
        Ok(chunks) => chunks,
        Err(panic) => Err(RowError::Tokenize(panic.to_string())),
    }
}

#[cfg(test)]
mod tests;
