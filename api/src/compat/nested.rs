//! Values that a body contains directly or inside an object with one field.

use std::fmt;
use std::marker::PhantomData;

use precis_schemas::Channel;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The object that may surround a value.
pub(crate) trait Nested: DeserializeOwned {
    /// The value.
    type Inner: DeserializeOwned;
    /// The expected input, for error messages.
    const EXPECTED: &'static str;
    /// Returns the value.
    fn into_inner(self) -> Self::Inner;
}

/// A value, plain or nested. Deserializes without an intermediate representation, so errors keep their position.
#[derive(Debug)]
pub(crate) struct PlainOrNested<T: Nested> {
    /// The value.
    pub(crate) inner: T::Inner,
    /// Nested bodies belong to the local serving component, plain ones to the gateway before MLflow.
    pub(crate) channel: Channel,
}

impl<'de, T: Nested> Deserialize<'de> for PlainOrNested<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        fn plain<T: Nested>(inner: T::Inner) -> PlainOrNested<T> {
            PlainOrNested {
                inner,
                channel: Channel::Mlflow,
            }
        }

        impl<'de, T: Nested> Visitor<'de> for Either<T> {
            type Value = PlainOrNested<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::Inner::deserialize(StrDeserializer::new(text)).map(plain)
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                T::Inner::deserialize(StringDeserializer::new(text)).map(plain)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                T::Inner::deserialize(SeqAccessDeserializer::new(items)).map(plain)
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(|nested| PlainOrNested {
                    inner: nested.into_inner(),
                    channel: Channel::Local,
                })
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}
