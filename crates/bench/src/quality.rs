//! `precis bench quality`: ROUGE of summaries in lower precisions, and of long texts read by map-reduce.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use precis_engine::{
    DeviceChoice, Engine, EngineOptions, GenerateRequest, Generated, GenerationParams, ModelSource,
    PrecisionChoice, RowError,
};
use precis_scoring::Rouge;
use precis_scoring::sentence::{Rules, sentence_ranges};
use precis_worker::stages::long_text::{LongText, map_reduce};
use serde::Serialize;
use serde_json::json;

use crate::samples::{Article, articles, parse_articles};
use crate::stopwatch::time;

/// Excerpts taken from each sample article.
const EXCERPTS_PER_ARTICLE: usize = 13;
/// Articles concatenated into a long text.
const ARTICLES_PER_LONG_TEXT: usize = 3;

/// Arguments of `precis bench quality`.
#[derive(Debug, Args)]
pub struct QualityBench {
    /// The model: `embedded`, a folder, or `hub:owner/name@revision`
    #[arg(long, default_value = "embedded")]
    model: ModelSource,
    /// JSON Lines with `article` and `reference`; default: excerpts of the sample articles
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Device for the lower precisions: cpu, cuda or metal; the baseline is always f32 on the CPU
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Number of beams
    #[arg(long, default_value_t = 4)]
    beams: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Quality of the summaries of one variant, as percentages.
#[derive(Debug, Serialize)]
struct VariantScores {
    #[serde(rename = "way")]
    variant: String,
    rouge1: f64,
    rouge2: f64,
    rouge_l: f64,
    /// Mean ROUGE-L difference to the baseline, which is the first variant.
    difference: f64,
    /// Half-width of the difference's 95 % confidence interval, over texts.
    plus_minus: f64,
    /// Summaries whose tokens equal the baseline's.
    same: f64,
    /// Tokens that equal the baseline's token at the same position.
    same_tokens: f64,
    /// Summaries per second of wall-clock time with all threads; not a percentage.
    per_second: f64,
}

/// The summaries of one variant.
struct Variant {
    name: String,
    generated: Vec<Generated>,
    per_second: f64,
}

impl QualityBench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let articles = match &self.texts {
            Some(path) => parse_articles(&read(path)?).with_context(|| path.display().to_string())?,
            None => articles()?,
        };
        let texts = match self.texts {
            Some(_) => articles.clone(),
            None => excerpts(&articles),
        };
        let precisions = self.compare_precisions(&texts)?;
        print_table("precision", texts.len(), &precisions);
        let long_texts = concatenations(&articles);
        let policies = self.compare_long_text_policies(&long_texts)?;
        print_table("long texts", long_texts.len(), &policies);
        if self.json {
            let report = json!({
                "model": self.model.to_string(), "beams": self.beams,
                "precision": {"texts": texts.len(), "ways": precisions},
                "long_texts": {"texts": long_texts.len(), "articles_each": ARTICLES_PER_LONG_TEXT, "ways": policies},
            });
            println!("{report}");
        }
        Ok(())
    }

    fn load(&self, device: DeviceChoice, precision: PrecisionChoice) -> anyhow::Result<Engine> {
        let options = EngineOptions {
            device,
            precision,
            ..EngineOptions::default()
        };
        Ok(Engine::load(&self.model, &options)?)
    }

    fn params(&self, engine: &Engine) -> GenerationParams {
        GenerationParams {
            num_beams: self.beams,
            do_sample: false,
            ..engine.default_params().clone()
        }
    }

    /// Summarizes the same texts in every precision.
    fn compare_precisions(&self, texts: &[Article]) -> anyhow::Result<Vec<VariantScores>> {
        let baseline = (DeviceChoice::Cpu, PrecisionChoice::F32);
        let others = match self.device {
            DeviceChoice::Cpu => [PrecisionChoice::Bf16, PrecisionChoice::Int8],
            _ => [PrecisionChoice::F32, PrecisionChoice::Auto],
        };
        let others = others.map(|precision| (self.device, precision));
        let mut variants = Vec::new();
        for (device, precision) in [baseline].into_iter().chain(others) {
            let engine = self.load(device, precision)?;
            let params = self.params(&engine);
            let request = |text: &Article| {
                let encoded = engine.tokenize(&text.article)?;
                Ok(GenerateRequest::new(encoded, params.clone()))
            };
            let requests: Vec<_> = texts.iter().map(request).collect::<anyhow::Result<_>>()?;
            let (generated, elapsed) = time(|| engine.generate_batch(&requests, &mut ()));
            variants.push(Variant {
                name: format!("{} {}", engine.info().device, engine.info().precision),
                generated: generated.into_iter().collect::<Result<_, _>>()?,
                per_second: texts.len() as f64 / elapsed.wall,
            });
        }
        Ok(score(texts, &variants))
    }

    /// Summarizes texts longer than the model's input, truncated and by map-reduce.
    fn compare_long_text_policies(&self, texts: &[Article]) -> anyhow::Result<Vec<VariantScores>> {
        let engine = Arc::new(self.load(DeviceChoice::Cpu, PrecisionChoice::F32)?);
        let params = self.params(&engine);
        let encoded = texts.iter().map(|text| engine.tokenize(&text.article));
        let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
        anyhow::ensure!(
            encoded.iter().all(|text| text.truncated_tokens > 0),
            "a long text fits the model's input: use longer texts"
        );
        let (truncated, elapsed) = time(|| {
            let summaries = encoded.into_iter().map(|encoded| {
                let request = GenerateRequest::new(encoded, params.clone());
                engine.submit(&request)?.wait()
            });
            summaries.collect::<Result<Vec<_>, _>>()
        });
        let truncated = Variant {
            name: "truncate".to_owned(),
            generated: truncated?,
            per_second: texts.len() as f64 / elapsed.wall,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
        let (reduced, elapsed) = time(|| {
            let summaries = texts.iter().map(|text| {
                let long = LongText {
                    text: text.article.clone(),
                    params: params.clone(),
                    stop: None,
                    keep: Arc::new(|text| text.trim().to_owned()),
                };
                let (progress, _receiver) = tokio::sync::mpsc::channel(1);
                let (generated, _) = runtime.block_on(map_reduce(&engine, long, &progress))?;
                Ok::<Generated, RowError>(*generated)
            });
            summaries.collect::<Result<Vec<_>, _>>()
        });
        let reduced = Variant {
            name: "map_reduce".to_owned(),
            generated: reduced?,
            per_second: texts.len() as f64 / elapsed.wall,
        };
        Ok(score(texts, &[truncated, reduced]))
    }
}

#[allow(clippy::disallowed_methods)] // runs outside any executor
fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Returns excerpts of each article that start and end at varying sentences.
///
/// They keep the reference of the whole article. Absolute scores are therefore low; only differences between variants
/// are meaningful.
fn excerpts(articles: &[Article]) -> Vec<Article> {
    let excerpt = |text: &Article, sentences: &[Range<usize>], index: usize| {
        let first = (index % 4).min(sentences.len() - 1);
        let last = sentences.len().saturating_sub(1 + index / 4 * 2).max(first);
        Article {
            article: text.article[sentences[first].start..sentences[last].end].to_owned(),
            reference: text.reference.clone(),
        }
    };
    let mut excerpts = Vec::new();
    for text in articles {
        let sentences = sentence_ranges(&text.article, Rules::Extended);
        excerpts.extend((0..EXCERPTS_PER_ARTICLE).map(|index| excerpt(text, &sentences, index)));
    }
    excerpts
}

/// Returns one long text per article: the article and its successors, with their references concatenated likewise.
fn concatenations(articles: &[Article]) -> Vec<Article> {
    let joined = |texts: &[&Article], of: fn(&Article) -> &str| {
        let parts: Vec<&str> = texts.iter().map(|text| of(text)).collect();
        parts.join("\n\n")
    };
    (0..articles.len())
        .map(|first| {
            let texts: Vec<&Article> = articles
                .iter()
                .cycle()
                .skip(first)
                .take(ARTICLES_PER_LONG_TEXT)
                .collect();
            Article {
                article: joined(&texts, |text| &text.article),
                reference: joined(&texts, |text| &text.reference),
            }
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Scores every variant against the references, and against the first variant.
fn score(texts: &[Article], variants: &[Variant]) -> Vec<VariantScores> {
    let rouge = Rouge::new(true);
    let baseline = &variants[0].generated;
    let mut baseline_scores = Vec::new();
    let mut rows = Vec::new();
    for Variant {
        name,
        generated,
        per_second,
    } in variants
    {
        let scores: Vec<_> = texts
            .iter()
            .zip(generated)
            .map(|(text, generated)| rouge.score(&text.reference, &generated.text))
            .collect();
        let percent =
            |pick: &dyn Fn(usize) -> f64| (0..texts.len()).map(|i| 100.0 * pick(i)).collect::<Vec<f64>>();
        let rouge_l = percent(&|i| scores[i].rouge_l.fmeasure);
        if baseline_scores.is_empty() {
            baseline_scores.clone_from(&rouge_l);
        }
        let differences: Vec<f64> = rouge_l
            .iter()
            .zip(&baseline_scores)
            .map(|(own, base)| own - base)
            .collect();
        let difference = mean(&differences);
        let squares: Vec<f64> = differences
            .iter()
            .map(|each| (each - difference).powi(2))
            .collect();
        let same = percent(&|i| f64::from(u8::from(generated[i].ids == baseline[i].ids)));
        let same_tokens = percent(&|i| {
            let (own, base) = (&generated[i].ids, &baseline[i].ids);
            let same = own.iter().zip(base).filter(|(own, base)| own == base).count();
            same as f64 / own.len().max(base.len()).max(1) as f64
        });
        rows.push(VariantScores {
            variant: name.clone(),
            rouge1: mean(&percent(&|i| scores[i].rouge1.fmeasure)),
            rouge2: mean(&percent(&|i| scores[i].rouge2.fmeasure)),
            rouge_l: mean(&rouge_l),
            difference,
            plus_minus: 1.96 * (mean(&squares) / texts.len().max(1) as f64).sqrt(),
            same: mean(&same),
            same_tokens: mean(&same_tokens),
            per_second: *per_second,
        });
    }
    rows
}

fn print_table(title: &str, texts: usize, rows: &[VariantScores]) {
    println!(
        "{title}, {texts} texts    ROUGE-1  ROUGE-2  ROUGE-L  difference (95 %)   same summaries  same tokens  summaries/s"
    );
    for row in rows {
        println!(
            "  {:12} {:16.2} {:8.2} {:8.2}   {:+6.2} ± {:4.2}      {:8.1} % {:10.1} % {:12.1}",
            row.variant,
            row.rouge1,
            row.rouge2,
            row.rouge_l,
            row.difference,
            row.plus_minus,
            row.same,
            row.same_tokens,
            row.per_second
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_yield_over_200_mostly_distinct_excerpts() {
        let articles = articles().unwrap();
        let excerpts = excerpts(&articles);
        assert!(excerpts.len() >= 200);
        let mut distinct: Vec<&str> = excerpts.iter().map(|text| text.article.as_str()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() >= 190, "{}", distinct.len());
        assert_eq!(concatenations(&articles).len(), articles.len());
    }
}
