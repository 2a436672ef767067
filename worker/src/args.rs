//! Command line of a worker, shared by `precis-worker` and `precis worker`.

use precis_runtime::boot::RunArgs;

/// Options of a worker.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WorkerArgs {
    /// Options of every role.
    #[command(flatten)]
    pub run: RunArgs,
    /// Device that the model runs on: cpu, cuda, metal or auto [worker.device]
    #[arg(long)]
    pub device: Option<String>,
    /// Model: embedded, a folder, or a hub id with an optional @revision [worker.model]
    #[arg(long)]
    pub model: Option<String>,
    /// Name under which the model is served [worker.serve_as]
    #[arg(long, value_name = "NAME")]
    pub serve_as: Option<String>,
}

impl WorkerArgs {
    /// Returns the run arguments, with these options as overrides of the configuration.
    pub fn run_args(&self) -> RunArgs {
        let mut run = self.run.clone();
        let options = [
            ("device", &self.device),
            ("model", &self.model),
            ("serve_as", &self.serve_as),
        ];
        for (key, value) in options {
            if let Some(value) = value {
                run.config.overrides.push(format!("worker.{key}={value}"));
            }
        }
        run
    }
}
