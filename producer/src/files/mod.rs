//! Files of rows, for the commands that read one and write another beside it.
//!
//! | file | purpose |
//! | --- | --- |
//! | `args.rs` | the options that say how to read a file |
//! | `columns.rs` | which column is what |
//! | `table.rs` | makes rows of the records of a file |
//! | `reader.rs` | reads a file row by row |
//! | `survey.rs` | reads a file once before the work begins |
//! | `writer.rs` | writes the rows with more columns |
//! | `parquet.rs` | Parquet, with the feature of this name |

mod args;
mod columns;
#[cfg(feature = "parquet")]
mod parquet;
mod reader;
mod survey;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use self::args::{TableArgs, extended, suffixed};
pub(crate) use self::columns::Task;
pub(crate) use self::reader::{FileError, Source};
pub(crate) use self::survey::{Survey, survey};
pub(crate) use self::table::Texts;
pub(crate) use self::writer::{Added, RowWriter};
