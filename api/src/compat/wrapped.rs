//! Bodies that come in two shapes: a value by itself, or inside of an object with one field.

use std::fmt;
use std::marker::PhantomData;

use precis_schemas::Channel;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What may come by itself or inside of an object with one field.
pub(crate) trait Wrappable: DeserializeOwned {
    /// What it is by itself.
    type Inner: DeserializeOwned;
    /// What is expected, for messages.
    const EXPECTED: &'static str;
    /// Takes it out of the object.
    fn unwrapped(self) -> Self::Inner;
}

/// Something by itself or wrapped; read without a detour, so that errors keep their place.
#[derive(Debug)]
pub(crate) struct Wrapped<T: Wrappable> {
    /// What it is.
    pub(crate) inner: T::Inner,
    /// How it came: wrapped is the shape of the local serving component, plain that of the gateway
    /// before MLflow.
    pub(crate) channel: Channel,
}

impl<'de, T: Wrappable> Deserialize<'de> for Wrapped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        fn plain<T: Wrappable>(inner: T::Inner) -> Wrapped<T> {
            Wrapped {
                inner,
                channel: Channel::Mlflow,
            }
        }

        impl<'de, T: Wrappable> Visitor<'de> for Either<T> {
            type Value = Wrapped<T>;

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
                T::deserialize(MapAccessDeserializer::new(fields)).map(|whole| Wrapped {
                    inner: whole.unwrapped(),
                    channel: Channel::Local,
                })
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}
