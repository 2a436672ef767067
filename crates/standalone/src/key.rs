//! `precis key`: makes an API key.

use std::process::ExitCode;

use precis_runtime::config::{KeyHash, generate_key, generate_webhook_secret};
use precis_schemas::Token;

/// What kind of key is made.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// Name of the key, for logs and metrics; also its tenant, unless the configuration says otherwise
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Make a secret that signs webhooks, too
    #[arg(long)]
    webhook_secret: bool,
}

fn name(text: &str) -> Result<String, String> {
    match Token::new("a key's name", text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Prints a new key for its holder, on standard error, and the part of the configuration that admits it,
/// on standard output. The key is kept nowhere.
pub(crate) fn print(args: &KeyArgs) -> ExitCode {
    let key = generate_key();
    eprintln!("The key, for its holder; it can't be shown again:\n\n    {key}\n");
    eprintln!("For the configuration of the gateway (precis.toml):\n");
    println!("[[access.keys]]");
    println!("name = \"{}\"", args.name);
    println!("hash = \"{}\"", KeyHash::of(&key));
    if args.webhook_secret {
        let secret = generate_webhook_secret();
        println!("webhook_secret = \"{secret}\"");
        eprintln!("\nThe receiver of the webhooks needs the webhook_secret too.");
    }
    ExitCode::SUCCESS
}
