//! The `precis` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    precis::main()
}
