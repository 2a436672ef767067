//! `precis completions` and `precis manual`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

/// Arguments of `precis completions`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `precis manual`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ManualArgs {
    /// Directory for the pages, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Prints the completion script of a command.
pub(crate) fn print_completions(mut command: Command, args: &CompletionsArgs) -> ExitCode {
    clap_complete::generate(args.shell, &mut command, "precis", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Writes the pages of a command and its subcommands.
pub(crate) fn write(command: Command, args: &ManualArgs) -> ExitCode {
    let written =
        std::fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(command, &args.dir));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", args.dir.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_completions() {
        let dir = tempfile::tempdir().unwrap();
        let args = ManualArgs {
            dir: dir.path().join("man1"),
        };
        write(crate::cli::Cli::command(), &args);
        let page = std::fs::read_to_string(args.dir.join("precis-producer-batch.1")).unwrap();
        assert!(
            page.contains("Examples:") && page.contains("in\\-flight"),
            "{page}"
        );
        let mut script = Vec::new();
        clap_complete::generate(
            Shell::Bash,
            &mut crate::cli::Cli::command(),
            "precis",
            &mut script,
        );
        assert!(String::from_utf8(script).unwrap().contains("--in-flight"));
    }
}
