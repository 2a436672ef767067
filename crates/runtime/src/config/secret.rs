//! Values that are redacted in logs and dumps.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A password, token or key. `Debug`, `Display` and serialization write `<redacted>`; only [`Secret::expose`] returns
/// the text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

/// A URL that is shown without its user, password and query.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Wraps a URL, or several separated by commas.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the whole URL, credentials included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the URL, or the comma-separated URLs, without user information, query and fragment.
    ///
    /// Passwords may contain any character, so everything before the last `@` of a server is left out, even if the `@`
    /// belongs to a path. A server is redacted if a `?` before its first `@` may begin either a query or the rest of a
    /// password.
    pub fn shown(&self) -> String {
        if !self.0.contains(['@', '?', '#']) {
            return self.0.clone();
        }
        let mut servers: Vec<String> = Vec::new();
        for piece in self.0.split(',') {
            match servers.last_mut() {
                // A comma inside a password or query: the rest of the same server.
                Some(server)
                    if !piece.contains("://") && (!server.contains('@') || server.contains(['?', '#'])) =>
                {
                    server.push(',');
                    server.push_str(piece);
                }
                _ => servers.push(piece.to_owned()),
            }
        }
        let one = |server: &String| {
            let (scheme, rest) = server.split_once("://").unwrap_or(("", server));
            let (before_query, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
            let host = match before_query.rsplit_once('@') {
                Some((_, host)) => host,
                None if query.contains('@') => "<redacted>",
                None => before_query,
            };
            if scheme.is_empty() {
                host.to_owned()
            } else {
                format!("{scheme}://{host}")
            }
        };
        servers.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted() {
        let secret = Secret::new("hunter2");
        for shown in [
            format!("{secret:?}"),
            secret.to_string(),
            serde_json::to_string(&secret).unwrap(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn urls_are_shown_without_credentials() {
        for (url, shown) in [
            ("nats://me:pw@host:4222", "nats://host:4222"),
            ("nats://a:b@one:1,nats://c@two:2", "nats://one:1,nats://two:2"),
            ("http://host:8123/path", "http://host:8123/path"),
            ("nats://me:p/w@host:4222", "nats://host:4222"),
            (
                "nats://me:p,w@host:4222,nats://other:4222",
                "nats://host:4222,nats://other:4222",
            ),
            ("me:pw@host:4222", "host:4222"),
            ("http://host:8123/?password=hunter2", "http://host:8123/"),
            ("http://me:pw@host:8123/?password=a@b,c#d", "http://host:8123/"),
            ("http://host:8123/?password=a@b", "http://<redacted>"),
            ("nats://me:p?w@host:4222", "nats://<redacted>"),
            ("http://host/?a=x,y,http://other/#z", "http://host/,http://other/"),
        ] {
            assert_eq!(ServerUrl::new(url).to_string(), shown);
        }
    }
}
