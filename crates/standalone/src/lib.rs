//! The `precis` command: the whole product on one machine.
//!
//! | module | what |
//! | --- | --- |
//! | [`up`] | `precis up`: starts every role as a supervised process and stops them in order |
//! | `summarize`, `status`, `healthcheck`, `install`, `key` | the commands of the same names |
//! | `drain` | `precis worker drain` |
//! | `guard` | runs a third-party server so that it never outlives `precis up` |
//! | `client` | the HTTP client of these commands |
//! | `cli` | the command line |

mod cli;
mod client;
mod drain;
mod guard;
mod healthcheck;
mod install;
mod key;
mod status;
mod summarize;
pub mod up;

pub use cli::main;
