//! Other inference engines, run by `benchmarks/peers/serve.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::stopwatch::Elapsed;

/// The process that runs the other engines. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Peers {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// One run of one engine.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct PeerRequest<'a> {
    /// The engine and its precision, such as `ctranslate2-int8`.
    pub(super) peer: &'a str,
    /// Number of threads.
    pub(super) threads: usize,
    /// Texts, as token ids.
    pub(super) ids: &'a [Vec<u32>],
    /// Number of beams; 1 is greedy search.
    pub(super) beams: usize,
    /// Texts per batch.
    pub(super) batch: usize,
    /// Exact length of every summary in tokens.
    pub(super) new_tokens: usize,
}

#[derive(Deserialize)]
struct PeerResponse {
    wall: Option<f64>,
    cpu: Option<f64>,
    error: Option<String>,
}

impl Peers {
    /// Starts `script` with the environment and models that `benchmarks/peers/setup.sh` created in `folder`.
    ///
    /// # Errors
    /// If the environment is missing.
    pub(super) fn start(folder: &Path, script: &Path) -> anyhow::Result<Self> {
        let python = folder.join("venv/bin/python");
        let mut process = Command::new(&python)
            .arg(script)
            .arg(folder.join("models"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: create it with benchmarks/peers/setup.sh", python.display()))?;
        let input = process.stdin.take().context("the peer process has no stdin")?;
        let output = process.stdout.take().context("the peer process has no stdout")?;
        Ok(Self {
            process,
            input,
            output: BufReader::new(output),
        })
    }

    /// Runs one engine on one batch of texts.
    ///
    /// # Errors
    /// If the engine reports an error, or the process has ended.
    pub(super) fn run(&mut self, request: PeerRequest<'_>) -> anyhow::Result<Elapsed> {
        serde_json::to_writer(&mut self.input, &request)?;
        self.input.write_all(b"\n")?;
        self.input.flush()?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the peer process has ended");
        }
        let response: PeerResponse = serde_json::from_str(&line).with_context(|| line.trim().to_owned())?;
        match (response.wall, response.cpu, response.error) {
            (Some(wall), Some(cpu), None) => Ok(Elapsed { wall, cpu }),
            (_, _, error) => bail!("{}: {}", request.peer, error.unwrap_or(line)),
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // Both fail if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
