//! The files of the console.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use precis_schemas::console::{LIBRARIES, Library};
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest as _, Sha256};

/// The page and its scripts.
#[derive(RustEmbed)]
#[folder = "../console/app/"]
struct App;

/// Articles and pairs to try the product with.
const SAMPLES: [(&str, &[u8]); 2] = [
    (
        "articles.jsonl",
        include_bytes!("../../../samples/articles.jsonl"),
    ),
    ("pairs.csv", include_bytes!("../../../samples/pairs.csv")),
];

/// A file with its compressed form.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) media_type: &'static str,
    pub(super) plain: Bytes,
    pub(super) gzip: Bytes,
    /// Lower-case hexadecimal SHA-256 of the content.
    pub(super) sha256: String,
}

/// Compressed contents by SHA-256. A file is compressed when it is first requested.
static COMPRESSED: LazyLock<Mutex<HashMap<[u8; 32], Bytes>>> = LazyLock::new(Mutex::default);

/// Returns the media type for a file name.
fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("csv") => "text/csv; charset=utf-8",
        Some("jsonl") => "application/x-ndjson",
        _ => "application/octet-stream",
    }
}

/// Compresses a file. Brotli would make the first load 14 % smaller, once per browser and version, and a cold build half a
/// minute of CPU longer.
fn compress(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("writing to memory cannot fail").into()
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl File {
    fn new(name: &str, plain: Bytes, hash: [u8; 32]) -> Self {
        let known = COMPRESSED.lock().get(&hash).cloned();
        let gzip = known.unwrap_or_else(|| {
            let gzip = compress(&plain);
            COMPRESSED.lock().insert(hash, gzip.clone());
            gzip
        });
        Self {
            media_type: media_type(name),
            plain,
            gzip,
            sha256: hex(&hash),
        }
    }

    fn embedded(name: &str, file: EmbeddedFile) -> Self {
        let hash = file.metadata.sha256_hash();
        let plain = match file.data {
            std::borrow::Cow::Borrowed(data) => Bytes::from_static(data),
            std::borrow::Cow::Owned(data) => data.into(),
        };
        Self::new(name, plain, hash)
    }
}

/// Returns a file of the page: `index.html`, or a path such as `screens/jobs.js`.
pub(super) fn app(path: &str) -> Option<File> {
    App::get(path).map(|file| File::embedded(path, file))
}

/// Returns a file with samples.
pub(super) fn sample(name: &str) -> Option<File> {
    let (_, content) = SAMPLES.iter().find(|(known, _)| *known == name)?;
    Some(File::new(
        name,
        Bytes::from_static(content),
        Sha256::digest(content).into(),
    ))
}

/// Libraries by checksum. A library is read when it is first requested.
static READ: LazyLock<Mutex<HashMap<&'static str, File>>> = LazyLock::new(Mutex::default);

/// Returns a library, unless it is missing or differs from the pinned file.
pub(super) fn library(folder: &Path, file: &str) -> Option<File> {
    let library = LIBRARIES.iter().find(|library| library.file() == file)?;
    if let Some(read) = READ.lock().get(library.sha256) {
        return Some(read.clone());
    }
    let content = std::fs::read(folder.join(file)).ok()?;
    let hash: [u8; 32] = Sha256::digest(&content).into();
    if hex(&hash) != library.sha256 {
        return None;
    }
    let found = File::new(file, content.into(), hash);
    READ.lock().insert(library.sha256, found.clone());
    Some(found)
}

/// Whether all libraries are there.
pub(super) fn has_libraries(folder: &Path) -> bool {
    let is_there = |library: &Library| folder.join(library.file()).is_file();
    LIBRARIES.iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Every file that the page's first load needs.
    fn first_load() -> Vec<String> {
        let page = app("index.html").unwrap();
        let page = String::from_utf8(page.plain.to_vec()).unwrap();
        let parts = page.split(['"', '\'']);
        let paths = parts.filter_map(|part| part.strip_prefix("/console/"));
        paths.map(str::to_owned).collect()
    }

    #[test]
    fn the_page_names_every_library_with_its_checksum() {
        let page = app("index.html").unwrap();
        let page = String::from_utf8(page.plain.to_vec()).unwrap();
        for library in LIBRARIES {
            let hex = library.sha256.as_bytes().chunks(2);
            let digest: Vec<u8> = hex
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            let wanted = format!(
                "\"/console/lib/{}\" integrity=\"sha256-{}\"",
                library.file(),
                STANDARD.encode(digest)
            );
            assert!(page.contains(&wanted), "index.html lacks {wanted}");
        }
    }

    #[test]
    fn the_page_preloads_every_script_and_nothing_else() {
        let loaded = first_load();
        let scripts = App::iter().filter(|path| path.ends_with(".js"));
        for path in scripts {
            assert!(
                loaded.iter().any(|name| *name == *path),
                "index.html does not preload {path}"
            );
        }
        for path in loaded.iter().filter(|path| !path.starts_with("lib/")) {
            assert!(
                app(path).is_some(),
                "index.html names {path}, which does not exist"
            );
        }
    }

    #[test]
    fn the_first_load_is_small() {
        // The libraries are not there in every checkout; together they take 33 KB.
        const LIBRARIES_GZIP: usize = 34_000;
        let own = first_load();
        let own = own.iter().filter_map(|path| app(path)).chain(app("index.html"));
        let total: usize = own.map(|file| file.gzip.len()).sum();
        assert!(total + LIBRARIES_GZIP <= 150_000, "{total} bytes compressed");
    }

    #[test]
    fn the_page_runs_no_inline_script_and_asks_no_other_host() {
        for path in App::iter().filter(|path| path.ends_with(".html")) {
            let page = app(&path).unwrap();
            let page = String::from_utf8(page.plain.to_vec()).unwrap();
            for script in page.split("<script").skip(1) {
                let (attributes, rest) = script.split_once('>').unwrap();
                assert!(attributes.contains("src=\"/console/"), "{path}: {attributes}");
                assert!(rest.starts_with("</script>"), "{path}: {attributes}");
            }
            assert!(!page.contains("//") && !page.contains("style="), "{path}");
        }
    }

    #[test]
    fn an_unknown_or_foreign_path_is_not_a_file() {
        for path in [
            "",
            "other.js",
            "../tsconfig.json",
            "/etc/passwd",
            "screens/../../tsconfig.json",
        ] {
            assert!(app(path).is_none(), "{path}");
        }
        assert!(sample("README.md").is_none());
        let folder = tempfile::tempdir().unwrap();
        let name = LIBRARIES[0].file();
        assert!(library(folder.path(), name).is_none());
        std::fs::write(folder.path().join(name), "changed").unwrap();
        assert!(
            library(folder.path(), name).is_none(),
            "a file with another checksum"
        );
        assert!(library(folder.path(), "../secret").is_none());
    }
}
