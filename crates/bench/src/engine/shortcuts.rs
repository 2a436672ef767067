//! What the engine's shortcuts bring, on the sample articles with the embedded model. None of them changes a result, and that
//! is looked at here as well.

use anyhow::Context;
use precis_engine::{
    Drafting, Engine, EngineOptions, GenerateRequest, GenerationParams, ModelSource, PrecisionChoice,
};
use precis_worker::summary::{first_sentence_rule, summary_of};
use serde_json::{Value, json};

use super::clock::{median, time};
use super::engine::{Report, options};

const ARTICLES: &str = include_str!("../../../../samples/articles.jsonl");
/// Equal requests that are asked for at a time.
const EQUAL: usize = 4;

/// Ratios of processor time, without a shortcut to with it.
///
/// # Errors
/// A request without a result; a shortcut that changes one.
pub(super) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let rounds = rounds.max(1);
    let ratios = [
        ("prompt_lookup_vs_without", drafts(rounds, report)?),
        ("first_sentence_vs_without", first_sentence(rounds)?),
        ("equal_requests_vs_without", equal_requests(rounds)?),
        ("kept_text_vs_without", kept_texts(rounds)?),
    ];
    let ratios = ratios.map(|(name, ratio)| (name.to_owned(), ratio));
    report.ratios.extend(ratios);
    Ok(())
}

fn load(change: impl FnOnce(&mut EngineOptions)) -> anyhow::Result<Engine> {
    let mut options = options(PrecisionChoice::F32, 1, Drafting::Off)?;
    change(&mut options);
    Ok(Engine::load(&ModelSource::Embedded, &options)?)
}

/// The articles, with the model's own parameters but for the number of beams.
fn requests(engine: &Engine, beams: usize) -> anyhow::Result<Vec<GenerateRequest>> {
    let params = GenerationParams {
        num_beams: beams,
        ..engine.default_params().clone()
    };
    let request = |line: &str| {
        let article: Value = serde_json::from_str(line)?;
        let text = article["text"].as_str().or(article["article"].as_str());
        let text = text.context("a sample without a text")?;
        Ok(GenerateRequest::new(engine.tokenize(text)?, params.clone()))
    };
    ARTICLES.lines().map(request).collect()
}

/// Processor time without a shortcut to that with it, of rounds in which both do the same.
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

/// Greedy search, one text at a time, as they come to an idle worker: with drafts.
fn drafts(rounds: usize, report: &mut Report) -> anyhow::Result<f64> {
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

/// Greedy search of which only the first sentence is kept: it ends when that sentence does.
fn first_sentence(rounds: usize) -> anyhow::Result<f64> {
    let engine = load(|_| {})?;
    let whole = requests(&engine, 1)?;
    let mut ending = whole.clone();
    let rule = first_sentence_rule();
    ending
        .iter_mut()
        .for_each(|request| request.stop = Some(rule.clone()));
    let kept = precis_schemas::GenerationParams::default();
    let run = |requests: &[GenerateRequest]| -> anyhow::Result<Vec<String>> {
        let summary = |request| Ok(summary_of(&engine.submit(request)?.wait()?.text, &kept));
        requests.iter().map(summary).collect()
    };
    ratio(rounds, || run(&ending), || run(&whole))
}

/// The same text asked for by several at a time.
fn equal_requests(rounds: usize) -> anyhow::Result<f64> {
    let (sharing, apart) = (
        load(|options| options.share_equal_requests = true)?,
        load(|_| {})?,
    );
    let requests = requests(&apart, 4)?;
    let run = |engine: &Engine| -> anyhow::Result<Vec<Vec<u32>>> {
        let mut results = Vec::new();
        for request in &requests {
            let together: Result<Vec<_>, _> = (0..EQUAL).map(|_| engine.submit(request)).collect();
            for generation in together? {
                results.push(generation.wait()?.ids);
            }
        }
        Ok(results)
    };
    ratio(rounds, || run(&sharing), || run(&apart))
}

/// A text that was just summarized, asked for again with other parameters.
fn kept_texts(rounds: usize) -> anyhow::Result<f64> {
    let (keeping, forgetting) = (load(|options| options.text_bytes = 256 << 20)?, load(|_| {})?);
    for request in requests(&keeping, 4)? {
        keeping.submit(&request)?.wait()?;
    }
    let again = requests(&keeping, 1)?;
    let run = |engine: &Engine| -> anyhow::Result<Vec<Vec<u32>>> {
        let ids = |request| Ok(engine.submit(request)?.wait()?.ids);
        again.iter().map(ids).collect()
    };
    ratio(rounds, || run(&keeping), || run(&forgetting))
}
