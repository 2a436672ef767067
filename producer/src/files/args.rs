//! The options that say how to read a file.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use encoding_rs::Encoding;

use super::columns::ColumnChoice;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values with a header
    Csv,
    /// Tab-separated values with a header
    Tsv,
    /// A JSON object or text per line
    Jsonl,
    /// A list of JSON objects or texts
    Json,
    /// Apache Parquet
    Parquet,
}

impl Format {
    /// Returns the format that the extension of a file name says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "json" => Self::Json,
            "parquet" | "pq" => Self::Parquet,
            _ => return None,
        })
    }

    /// Returns the byte between the fields of a record, for formats that have one.
    pub(crate) fn delimiter(self) -> Option<u8> {
        match self {
            Self::Csv => Some(b','),
            Self::Tsv => Some(b'\t'),
            Self::Jsonl | Self::Json | Self::Parquet => None,
        }
    }
}

/// A character that separates fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delimiter(pub(crate) u8);

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            b"tab" | b"\\t" => Ok(Self(b'\t')),
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(Self(*byte)),
            _ => Err("give one ASCII character other than a quote, such as ';', or `tab`".to_owned()),
        }
    }
}

/// The name of a character set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Charset(pub(crate) &'static Encoding);

impl FromStr for Charset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Encoding::for_label(text.as_bytes()).map(Self).ok_or_else(|| {
            "no such character set; Excel writes windows-1252 in Western Europe and America, windows-1250 in Central \
             Europe, windows-1251 for Cyrillic, shift_jis in Japan, gbk in China"
                .to_owned()
        })
    }
}

/// How to read a file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TableArgs {
    /// Format of the file; by default, its extension says it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Name a column, such as --column article=body, where the file does not use the usual names; may be repeated
    #[arg(long = "column", value_name = "COLUMN=NAME")]
    pub(crate) columns: Vec<ColumnChoice>,
    /// Character between fields, such as ';' [default: a comma, or a tab for TSV]
    #[arg(long, value_name = "CHARACTER")]
    pub(crate) delimiter: Option<Delimiter>,
    /// Character set of the file, such as windows-1252 [default: UTF-8, or what a byte order mark says]
    #[arg(long, value_name = "NAME")]
    pub(crate) encoding: Option<Charset>,
}

/// Returns the path beside `file` whose name has `suffix` before the extension.
pub(crate) fn suffixed(file: &Path, suffix: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = match file.extension() {
        Some(extension) => format!("{stem}.{suffix}.{}", extension.to_string_lossy()),
        None => format!("{stem}.{suffix}"),
    };
    file.with_file_name(name)
}

/// Returns the path with one more extension.
pub(crate) fn extended(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_with_examples() {
        assert_eq!("tab".parse(), Ok(Delimiter(b'\t')));
        assert_eq!(";".parse(), Ok(Delimiter(b';')));
        for bad in ["", "\"", ";;", "é"] {
            assert!(bad.parse::<Delimiter>().is_err(), "{bad}");
        }
        assert_eq!("cp1252".parse(), Ok(Charset(encoding_rs::WINDOWS_1252)));
        assert!("klingon".parse::<Charset>().unwrap_err().contains("windows-1252"));
    }

    #[test]
    fn results_are_beside_their_file() {
        let beside = |path: &str| suffixed(Path::new(path), "summaries");
        assert_eq!(beside("a/news.csv"), Path::new("a/news.summaries.csv"));
        assert_eq!(beside("news"), Path::new("news.summaries"));
    }
}
