//! The command line of the gateway, shared by `precis-api` and `precis api`.

use precis_runtime::boot::RunArgs;

/// Options of the gateway.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ApiArgs {
    /// Options of every role.
    #[command(flatten)]
    pub run: RunArgs,
    /// Where jobs run: queue (workers behind NATS) or local (the model in this process, `precis api` only) [api.engine]
    #[arg(long)]
    pub engine: Option<String>,
    /// Address of the HTTP server [api.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The model for --engine local: embedded, a folder, or a hub id with an optional @revision [worker.model]
    #[arg(long)]
    pub model: Option<String>,
}

impl ApiArgs {
    /// Returns the options of the role, with this command's own ones as overrides of the configuration.
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
