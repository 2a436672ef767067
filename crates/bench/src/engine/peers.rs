//! The engines of others, behind `benchmarks/peers/serve.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::clock::Spent;

/// A process that runs the others.
#[derive(Debug)]
pub(super) struct Peers {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What one of them is to do.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Order<'a> {
    /// `ctranslate2-int8`, `ctranslate2-f32`, `onnxruntime-int8`, `transformers-f32`.
    pub(super) peer: &'a str,
    /// Threads that it may use.
    pub(super) threads: usize,
    /// Texts.
    pub(super) ids: &'a [Vec<u32>],
    /// Beams; 1 is greedy search.
    pub(super) beams: usize,
    /// Texts that it takes together.
    pub(super) batch: usize,
    /// Tokens that it must write, no more and no fewer.
    pub(super) new_tokens: usize,
}

#[derive(Deserialize)]
struct Answer {
    wall: Option<f64>,
    cpu: Option<f64>,
    error: Option<String>,
}

impl Peers {
    /// Starts them. `folder` is what `benchmarks/peers/setup.sh` made, `script` is `serve.py`.
    ///
    /// # Errors
    /// When the environment isn't there.
    pub(super) fn start(folder: &Path, script: &Path) -> anyhow::Result<Self> {
        let python = folder.join("venv/bin/python");
        let mut process = Command::new(&python)
            .arg(script)
            .arg(folder.join("models"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: benchmarks/peers/setup.sh makes it", python.display()))?;
        let input = process.stdin.take().context("no way to talk to the peers")?;
        let output = process.stdout.take().context("no way to hear the peers")?;
        Ok(Self {
            process,
            input,
            output: BufReader::new(output),
        })
    }

    /// Has one of them work.
    ///
    /// # Errors
    /// What it says went wrong.
    pub(super) fn run(&mut self, order: Order<'_>) -> anyhow::Result<Spent> {
        serde_json::to_writer(&mut self.input, &order)?;
        self.input.write_all(b"\n")?;
        self.input.flush()?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the peers have ended");
        }
        let answer: Answer = serde_json::from_str(&line).with_context(|| line.trim().to_owned())?;
        match (answer.wall, answer.cpu, answer.error) {
            (Some(wall), Some(cpu), None) => Ok(Spent { wall, cpu }),
            (_, _, error) => bail!("{}: {}", order.peer, error.unwrap_or(line)),
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
