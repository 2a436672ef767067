//! Gains of the engine's shortcuts, on the sample articles with the embedded model.
//!
//! A shortcut must not change a result. Every comparison checks that.

use precis_engine::{
    Drafting, Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice,
};
use precis_worker::summary::{first_sentence_rule, summary_of};
use serde_json::json;

use super::report::Report;
use super::setup::uncached_options;
use crate::samples::articles;
use crate::stats::median;
use crate::stopwatch::time;

/// Equal requests that are submitted at the same time.
const EQUAL_REQUESTS: usize = 4;

/// Adds the ratio of processor time without each shortcut to the time with it.
///
/// # Errors
/// If a request fails, or a shortcut changes a result.
pub(super) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let rounds = rounds.max(1);
    let ratios = [
        ("prompt_lookup_vs_without", prompt_lookup(rounds, report)?),
        ("first_sentence_vs_without", first_sentence(rounds)?),
        ("equal_requests_vs_without", equal_requests(rounds)?),
        ("kept_text_vs_without", text_cache(rounds)?),
    ];
    let ratios = ratios.map(|(name, ratio)| (name.to_owned(), ratio));
    report.ratios.extend(ratios);
    Ok(())
}

fn load(change: impl FnOnce(&mut EngineOptions)) -> anyhow::Result<Engine> {
    let mut options = uncached_options(PrecisionChoice::F32, 1, Drafting::Off)?;
    change(&mut options);
    Ok(Engine::load(&ModelSource::Embedded, &options)?)
}

/// Returns a request per article, with the model's default parameters except for the number of beams.
fn requests(engine: &Engine, beams: usize) -> anyhow::Result<Vec<GenerateRequest>> {
    let params = GenerationParams {
        num_beams: beams,
        ..engine.default_params().clone()
    };
    let request = |text: &str| Ok(GenerateRequest::new(engine.tokenize(text)?, params.clone()));
    articles()?
        .iter()
        .map(|sample| request(&sample.article))
        .collect()
}

/// Returns the median ratio of processor time `without` a shortcut to `with` it.
fn ratio<T: PartialEq>(
    rounds: usize,
    mut with: impl FnMut() -> anyhow::Result<T>,
    mut without: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<f64> {
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let (slow_results, slow) = time(&mut without);
        let (fast_results, fast) = time(&mut with);
        anyhow::ensure!(slow_results? == fast_results?, "a shortcut changed a result");
        ratios.push(slow.cpu / fast.cpu);
    }
    Ok(median(ratios))
}

/// Prompt lookup decoding, with greedy search and one text at a time.
fn prompt_lookup(rounds: usize, report: &mut Report) -> anyhow::Result<f64> {
    let (plain, drafted) = (
        load(|_| {})?,
        load(|options| options.drafting = Drafting::Adaptive)?,
    );
    let requests = requests(&plain, 1)?;
    let run = |engine: &Engine| -> anyhow::Result<Vec<Vec<u32>>> {
        let ids = |request| Ok(engine.submit(request)?.wait()?.ids);
        requests.iter().map(ids).collect()
    };
    let ratio = ratio(rounds, || run(&drafted), || run(&plain))?;
    let (mut steps, mut tokens) = (0, 0);
    for request in &requests {
        let generated = drafted.submit(request)?.wait()?;
        (steps, tokens) = (steps + generated.steps, tokens + generated.ids.len());
    }
    let details = json!({"articles": requests.len(), "tokens": tokens, "steps": steps});
    report.details.insert("prompt_lookup".into(), details);
    Ok(ratio)
}

/// Stopping at the end of the first sentence when only that sentence is returned, with greedy search.
fn first_sentence(rounds: usize) -> anyhow::Result<f64> {
    let engine = load(|_| {})?;
    let whole = requests(&engine, 1)?;
    let mut stopping = whole.clone();
    let rule = first_sentence_rule();
    for request in &mut stopping {
        request.stop = Some(rule.clone());
    }
    let params = precis_schemas::GenerationParams::default();
    let run = |requests: &[GenerateRequest]| -> anyhow::Result<Vec<String>> {
        let summary = |request| Ok(summary_of(&engine.submit(request)?.wait()?.text, &params));
        requests.iter().map(summary).collect()
    };
    ratio(rounds, || run(&stopping), || run(&whole))
}

/// Computing equal concurrent requests once.
fn equal_requests(rounds: usize) -> anyhow::Result<f64> {
    let (sharing, separate) = (
        load(|options| options.share_equal_requests = true)?,
        load(|_| {})?,
    );
    let requests = requests(&separate, 4)?;
    let run = |engine: &Engine| -> anyhow::Result<Vec<Vec<u32>>> {
        let mut results = Vec::new();
        for request in &requests {
            let submitted: Result<Vec<_>, _> = (0..EQUAL_REQUESTS).map(|_| engine.submit(request)).collect();
            for generation in submitted? {
                results.push(generation.wait()?.ids);
            }
        }
        Ok(results)
    };
    ratio(rounds, || run(&sharing), || run(&separate))
}

/// Reusing the encoder's output for a text that was just summarized with other parameters.
fn text_cache(rounds: usize) -> anyhow::Result<f64> {
    let (caching, uncached) = (load(|options| options.text_bytes = 256 << 20)?, load(|_| {})?);
    for request in requests(&caching, 4)? {
        caching.submit(&request)?.wait()?;
    }
    let again = requests(&caching, 1)?;
    let run = |engine: &Engine| -> anyhow::Result<Vec<Vec<u32>>> {
        let ids = |request| Ok(engine.submit(request)?.wait()?.ids);
        again.iter().map(ids).collect()
    };
    ratio(rounds, || run(&caching), || run(&uncached))
}
