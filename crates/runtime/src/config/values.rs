//! Values whose errors say what they must be.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Defines an enum whose values are words of the configuration.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String")]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+ }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                match text.as_str() {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("must be one of {}, not {text:?}", [$($text),+].join(", "))),
                }
            }
        }
    };
}

/// Reads an address to listen on.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let problem = format!("must be an IP address and a port, such as 127.0.0.1:8000, not {text:?}");
        D::Error::custom(problem)
    })
}

/// Reads an address to listen on, if there is one.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    struct Address(#[serde(deserialize_with = "address")] SocketAddr);
    Ok(Option::<Address>::deserialize(deserializer)?.map(|Address(address)| address))
}

/// Reads a point in time, if there is one.
pub(super) fn optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(D::Error::custom(format!(
            "must be a time such as 2026-01-01T00:00:00Z, not {text:?}"
        ))),
    }
}
