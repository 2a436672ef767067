//! Swagger UI at `/docs`.
//!
//! Its files are part of the program, so the page fetches nothing from other servers. They come from the crate
//! `utoipa-swagger-ui-vendored`, which contains the archive of a Swagger UI release.

use std::io::{self, Cursor, Read};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, header};
use precis_schemas::ErrorCode;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;
use zip::result::{ZipError, ZipResult};

use crate::http::accept::allows_gzip;
use crate::http::problem::ApiError;

/// Names of the files that the page loads, with their media types.
const FILES: [(&str, &str); 2] = [
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("swagger-ui.css", "text/css; charset=utf-8"),
];

/// The page, which loads [`FILES`].
pub(crate) const PAGE: &str = include_str!("docs.html");

struct Asset {
    name: &'static str,
    media_type: &'static str,
    gzip: Bytes,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    read_assets().unwrap_or_else(|error| {
        tracing::error!(%error, "the embedded archive of Swagger UI is unreadable");
        Vec::new()
    })
});

fn read_assets() -> ZipResult<Vec<Asset>> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let mut assets = Vec::with_capacity(FILES.len());
    for (name, media_type) in FILES {
        let suffix = format!("/dist/{name}");
        let is_file = |index: &usize| {
            let path = archive.name_for_index(*index);
            path.is_some_and(|path| path.is_ok_and(|path| path.ends_with(&suffix)))
        };
        let index = (0..archive.len()).find(is_file).ok_or(ZipError::FileNotFound)?;
        let entry = archive.by_index_raw(index)?;
        let (checksum, length) = (entry.crc32(), entry.size());
        assets.push(Asset {
            name,
            media_type,
            gzip: to_gzip(entry, checksum, length)?,
        });
    }
    Ok(assets)
}

/// Wraps deflated data in the header and trailer of gzip (RFC 1952): most clients get it without recompression.
fn to_gzip(mut deflated: impl Read, checksum: u32, length: u64) -> io::Result<Bytes> {
    // Magic number, deflate, no flags, no modification time, no extra flags, unknown operating system.
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    deflated.read_to_end(&mut gzip)?;
    gzip.extend(checksum.to_le_bytes());
    // The trailer holds the length modulo 2³².
    gzip.extend((length as u32).to_le_bytes());
    Ok(gzip.into())
}

/// `GET /docs`.
pub(crate) async fn page() -> impl IntoResponse {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:",
    );
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE))
}

/// `GET /docs/{file}`.
pub(crate) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == file) else {
        let shown: String = file.chars().take(80).collect();
        return Err(ApiError::new(
            ErrorCode::RouteNotFound,
            format!("there is no route /docs/{shown}"),
        ));
    };
    let mut response = if allows_gzip(&headers) {
        let encoding = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        ([encoding], asset.gzip.clone()).into_response()
    } else {
        let mut plain = Vec::new();
        GzDecoder::new(&*asset.gzip)
            .read_to_end(&mut plain)
            .map_err(|error| ApiError::internal(&format!("decompressing {}: {error}", asset.name)))?;
        plain.into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    Ok(response)
}
