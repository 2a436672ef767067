//! The `precis` command: the whole product on one machine.
//!
//! | module | what |
//! | --- | --- |
//! | [`up`] | `precis up`: starts every role as a supervised process and stops them in order |
//! | `summarize`, `status`, `healthcheck`, `install`, `key` | the commands of the same names |
//! | `drain` | `precis worker drain` |
//! | `guard` | runs a third-party server so that it never outlives `precis up` |
//! | `manual` | shell completions and manual pages |
//! | `cli` | the command line |

mod cli;
mod drain;
mod guard;
mod healthcheck;
mod install;
mod key;
mod manual;
mod status;
mod summarize;
pub mod up;

use precis_producer::gateway as client;

pub use cli::main;
