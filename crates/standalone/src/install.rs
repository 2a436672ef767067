//! `precis install`: downloads what `precis up` would, and starts nothing.

use clap::ValueEnum;
use precis_installer::Installer;
use precis_runtime::Config;
use precis_runtime::boot::RoleContext;
use precis_runtime::config::ConfigArgs;

/// Arguments of `precis install`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InstallArgs {
    /// Arguments that every command takes.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// What to install; default: everything that `precis up` needs
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
}

/// Something to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// nats-server
    Nats,
    /// ClickHouse, or its engine
    #[value(name = "clickhouse")]
    ClickHouse,
    /// The libraries of the console
    Console,
    /// SmolLM2-135M-Instruct, a small instruct model; only if named
    #[value(name = "smollm2-135m-instruct")]
    SmolLm2,
}

/// Returns an installer with the settings of the configuration.
pub(crate) fn installer(config: &Config) -> Installer {
    let settings = &config.standalone;
    let mut installer = Installer::new(&settings.local_dir);
    installer.offline = settings.offline;
    installer.nats_server.clone_from(&settings.nats_server);
    installer.clickhouse.clone_from(&settings.clickhouse);
    installer
}

/// Installs the parts and prints where each of them is.
///
/// # Errors
/// If a part can't be installed.
pub(crate) async fn run(context: RoleContext, args: InstallArgs) -> anyhow::Result<()> {
    let installer = installer(&context.config);
    let wanted = |part: Part| args.parts.is_empty() || args.parts.contains(&part);
    if wanted(Part::Nats) {
        println!("{}", installer.ensure_nats_server().await?.display());
    }
    if wanted(Part::ClickHouse) {
        println!("{}", installer.ensure_clickhouse().await?.path().display());
    }
    if wanted(Part::Console) {
        println!("{}", installer.ensure_console().await?.display());
    }
    if args.parts.contains(&Part::SmolLm2) {
        println!("{}", installer.ensure_smollm2().await?.display());
    }
    Ok(())
}
