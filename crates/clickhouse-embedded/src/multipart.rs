//! The subset of `multipart/form-data` that ClickHouse clients send: named text fields.

use crate::errors::{EngineError, code};

/// Splits a body into `(name, value)` fields.
pub(crate) fn fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, EngineError> {
    let malformed = |what: &str| {
        EngineError::new(
            code::BAD_ARGUMENTS,
            format!("the multipart/form-data body is malformed: {what}"),
        )
    };
    let delimiter = format!("--{boundary}").into_bytes();
    let mut rest = body;
    if let Some(start) = find(rest, &delimiter) {
        rest = &rest[start + delimiter.len()..];
    } else {
        return Err(malformed("the boundary is missing"));
    }
    let next = [b"\r\n".as_slice(), &delimiter].concat();
    let mut fields = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        let part = rest
            .strip_prefix(b"\r\n")
            .ok_or_else(|| malformed("a boundary is not on its own line"))?;
        let end = find(part, &next).ok_or_else(|| malformed("the closing boundary is missing"))?;
        let (headers, value) = split_part(&part[..end]).ok_or_else(|| malformed("a part has no headers"))?;
        let headers = String::from_utf8_lossy(headers);
        if attribute(&headers, "filename").is_some() {
            return Err(EngineError::new(
                code::NOT_IMPLEMENTED,
                "external tables are not available in the embedded engine",
            ));
        }
        let name = attribute(&headers, "name").ok_or_else(|| malformed("a part has no name"))?;
        let value = std::str::from_utf8(value).map_err(|_| malformed("a field is not UTF-8"))?;
        fields.push((name, value.to_owned()));
        rest = &part[end + next.len()..];
    }
}

/// Splits a part at the empty line between its headers and its value.
fn split_part(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = find(part, b"\r\n\r\n")?;
    Some((&part[..at], &part[at + 4..]))
}

/// Returns an attribute of the `Content-Disposition` header.
fn attribute(headers: &str, wanted: &str) -> Option<String> {
    let disposition = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    disposition
        .split(';')
        .filter_map(|piece| piece.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_parsed() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {x:String}\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"param_x\"\r\nContent-Type: text/plain\r\n\r\na\r\n\r\n--c\r\n--b--\r\n";
        assert_eq!(
            fields(body.as_bytes(), "b").unwrap(),
            [
                ("query".to_owned(), "SELECT {x:String}".to_owned()),
                ("param_x".to_owned(), "a\r\n\r\n--c".to_owned())
            ]
        );
    }

    #[test]
    fn malformed_bodies_are_rejected() {
        for body in [
            "",
            "nothing here",
            "--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\ncut",
            "--b\r\nno headers\r\n--b--",
            "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
            "--bx\r\n",
        ] {
            assert_eq!(
                fields(body.as_bytes(), "b").unwrap_err().code,
                code::BAD_ARGUMENTS,
                "{body:?}"
            );
        }
    }

    #[test]
    fn files_are_rejected() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"x\"\r\n\r\n1\r\n--b--";
        assert_eq!(
            fields(body.as_bytes(), "b").unwrap_err().code,
            code::NOT_IMPLEMENTED
        );
    }
}
