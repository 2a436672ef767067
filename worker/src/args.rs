//! Command line of a worker, shared by `precis-worker` and `precis worker`.

use precis_runtime::boot::RunArgs;

/// How a worker is run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WorkerArgs {
    /// How the process is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where the model runs: cpu, cuda, metal or auto [worker.device]
    #[arg(long)]
    pub device: Option<String>,
    /// The model: embedded, a folder, or a hub id with an optional @revision [worker.model]
    #[arg(long)]
    pub model: Option<String>,
    /// Name under which the model is served [worker.serve_as]
    #[arg(long, value_name = "NAME")]
    pub serve_as: Option<String>,
}

impl WorkerArgs {
    /// The arguments with this command's own options as overrides of the configuration.
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
