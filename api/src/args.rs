//! Command line of the gateway, shared by `precis-api` and `precis api`.

use precis_runtime::boot::RunArgs;

/// How the gateway is run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ApiArgs {
    /// How the process is run.
    #[command(flatten)]
    pub run: RunArgs,
    /// What does the work: queue (workers behind NATS) or local (the model in this process) [api.engine]
    #[arg(long)]
    pub engine: Option<String>,
    /// Address of the HTTP server [api.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The model, with --engine local: embedded, a folder, or a hub id with an optional @revision [worker.model]
    #[arg(long)]
    pub model: Option<String>,
}

impl ApiArgs {
    /// The arguments with this command's own options as overrides of the configuration.
    pub fn run_args(&self) -> RunArgs {
        let mut run = self.run.clone();
        let options = [
            ("api.engine", &self.engine),
            ("api.listen", &self.listen),
            ("worker.model", &self.model),
        ];
        for (key, value) in options {
            if let Some(value) = value {
                run.config.overrides.push(format!("{key}={value}"));
            }
        }
        run
    }
}
