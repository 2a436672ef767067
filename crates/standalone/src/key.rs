//! `precis key`: creates an API key.

use std::process::ExitCode;

use precis_runtime::config::{KeyHash, generate_key, generate_webhook_secret};
use precis_schemas::{Lane, Token};

/// Arguments of `precis key`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// Name of the key in logs and metrics; also the tenant, unless the configuration sets one
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Allow only this priority: high, normal or bulk; may be repeated
    #[arg(long = "lane", value_name = "LANE")]
    lanes: Vec<Lane>,
    /// Let the key see the jobs and figures of every tenant
    #[arg(long)]
    operator: bool,
    /// Also create a secret for signing webhooks
    #[arg(long)]
    webhook_secret: bool,
}

fn parse_name(text: &str) -> Result<String, String> {
    match Token::new("a key's name", text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Prints a new key to standard error and its configuration, which holds only a hash, to standard output.
pub(crate) fn print(args: &KeyArgs) -> ExitCode {
    let key = generate_key();
    eprintln!("API key for the client. Store it now: it can't be shown again.\n\n    {key}\n");
    eprintln!("Add this to the gateway's configuration (precis.toml):\n");
    println!("[[access.keys]]");
    println!("name = \"{}\"", args.name);
    println!("hash = \"{}\"", KeyHash::of(&key));
    if args.operator {
        println!("operator = true");
    }
    if !args.lanes.is_empty() {
        let lanes: Vec<String> = args.lanes.iter().map(|lane| format!("\"{lane}\"")).collect();
        println!("lanes = [{}]", lanes.join(", "));
    }
    if args.webhook_secret {
        let secret = generate_webhook_secret();
        println!("webhook_secret = \"{secret}\"");
        eprintln!("\nGive webhook_secret to the webhook receiver too, so that it can verify signatures.");
    }
    ExitCode::SUCCESS
}
