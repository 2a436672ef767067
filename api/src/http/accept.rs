//! What a client accepts: the weights of media types and content codings (RFC 9110, 12.5).

use http::{HeaderMap, HeaderName, header};

/// Returns the names that a header lists, with their weights: 1 without one.
fn listed(headers: &HeaderMap, header: HeaderName) -> impl Iterator<Item = (&str, f32)> {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next()?;
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            Some((name, weight.unwrap_or(1.0)))
        })
}

/// Returns the media types and ranges in `Accept`, with their weights.
pub(crate) fn media_types(headers: &HeaderMap) -> impl Iterator<Item = (&str, f32)> {
    listed(headers, header::ACCEPT)
}

/// Returns the weight that a header gives to `name`, 0 if it does not list it. Ranges such as `*/*` don't count.
fn weight_in(headers: &HeaderMap, header: HeaderName, name: &str) -> f32 {
    listed(headers, header)
        .filter(|(listed, _)| listed.eq_ignore_ascii_case(name))
        .map(|(_, weight)| weight)
        .fold(0.0, f32::max)
}

/// Returns the weight of a media type in `Accept`, 0 if it is not named.
pub(crate) fn weight(headers: &HeaderMap, media_type: &str) -> f32 {
    weight_in(headers, header::ACCEPT, media_type)
}

/// Whether `Accept-Encoding` names gzip with a weight above 0.
pub(crate) fn allows_gzip(headers: &HeaderMap) -> bool {
    weight_in(headers, header::ACCEPT_ENCODING, "gzip") > 0.0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_named_type_has_its_weight() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            weight(&headers, "text/html")
        };
        for (value, expected) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                1.0,
            ),
            ("application/json, Text/HTML;q=0.5", 0.5),
            ("text/html;level=1;q=0.4", 0.4),
            ("*/*", 0.0),
            ("text/html;q=0", 0.0),
            ("", 0.0),
        ] {
            assert!((accepts(value) - expected).abs() < f32::EPSILON, "{value}");
        }
    }

    #[test]
    fn gzip_is_refused_with_weight_zero() {
        let allows = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            allows_gzip(&headers)
        };
        assert!(allows("br, GZIP;q=0.5") && allows("gzip"));
        assert!(!allows("gzip;q=0") && !allows("gzip;q=0.000") && !allows("br") && !allows("identity"));
    }
}
