//! The `precis` command, for end-to-end tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    precis::main()
}
