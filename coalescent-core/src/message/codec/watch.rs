//! Inspects a value of the application while it is being serialized.
//!
//! MessagePack and JSON cannot represent the same values: MessagePack lacks 128-bit integers, JSON
//! lacks NaN and keys that are arrays, for example. The serializer records such values here, so
//! that none is changed silently.

use std::cell::Cell;

use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

/// The prefix of the struct names by which `serde_json` marks raw JSON text.
const JSON_TEXT: &str = "$serde_json::private::";

/// What was found in a value.
#[derive(Default)]
pub(crate) struct Seen {
    non_finite: Cell<bool>,
    differs: Cell<bool>,
    json_text: Cell<bool>,
}

impl Seen {
    /// Returns whether the value contains a number that JSON lacks: NaN or an infinity.
    pub(crate) fn non_finite(&self) -> bool {
        self.non_finite.get()
    }

    /// Returns whether serializing the value as JSON may differ from translating its MessagePack
    /// form.
    pub(crate) fn differs_as_json(&self) -> bool {
        self.non_finite.get() || self.differs.get() || self.json_text.get()
    }

    /// Returns whether the value contains raw JSON text, which only a JSON serializer understands.
    pub(crate) fn json_text(&self) -> bool {
        self.json_text.get()
    }
}

/// A value that is inspected while it is being serialized.
pub(crate) struct Watched<'a, T: ?Sized> {
    value: &'a T,
    seen: &'a Seen,
    /// Whether the value is the key of a map.
    key: bool,
}

impl<'a, T: ?Sized> Watched<'a, T> {
    pub(crate) fn new(value: &'a T, seen: &'a Seen) -> Self {
        Self {
            value,
            seen,
            key: false,
        }
    }
}

impl<T: Serialize + ?Sized> Serialize for Watched<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Watch {
            inner: serializer,
            seen: self.seen,
            key: self.key,
        })
    }
}

/// A serializer that delegates to `inner` and records what it sees.
struct Watch<'a, S> {
    inner: S,
    seen: &'a Seen,
    key: bool,
}

impl<S> Watch<'_, S> {
    /// Records a value that is not a valid JSON key, if a key is expected.
    #[inline]
    fn no_plain_key(&self) {
        if self.key {
            self.seen.differs.set(true);
        }
    }

    #[inline]
    fn number(&self, finite: bool) {
        if !finite {
            self.seen.non_finite.set(true);
        }
        self.no_plain_key();
    }
}

/// A container whose elements are inspected too.
struct Compound<'a, C> {
    inner: C,
    seen: &'a Seen,
}

macro_rules! plain {
    ($($method:ident($type:ty),)*) => {
        $(
            #[inline]
            fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
                self.inner.$method(value)
            }
        )*
    };
}

macro_rules! container {
    ($($method:ident($($arg:ident: $type:ty),*) -> $assoc:ident,)*) => {
        $(
            #[inline]
            fn $method(self, $($arg: $type),*) -> Result<Self::$assoc, S::Error> {
                self.no_plain_key();
                Ok(Compound {
                    inner: self.inner.$method($($arg),*)?,
                    seen: self.seen,
                })
            }
        )*
    };
}

impl<'a, S: Serializer> Serializer for Watch<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<'a, S::SerializeSeq>;
    type SerializeTuple = Compound<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Compound<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<'a, S::SerializeTupleVariant>;
    type SerializeMap = Compound<'a, S::SerializeMap>;
    type SerializeStruct = Compound<'a, S::SerializeStruct>;
    type SerializeStructVariant = Compound<'a, S::SerializeStructVariant>;

    plain! {
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_char(char),
        serialize_str(&str),
    }

    container! {
        serialize_seq(len: Option<usize>) -> SerializeSeq,
        serialize_tuple(len: usize) -> SerializeTuple,
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct,
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeTupleVariant,
        serialize_map(len: Option<usize>) -> SerializeMap,
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeStructVariant,
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        if name.starts_with(JSON_TEXT) {
            self.seen.json_text.set(true);
        }
        self.no_plain_key();
        Ok(Compound {
            inner: self.inner.serialize_struct(name, len)?,
            seen: self.seen,
        })
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        self.seen.differs.set(true);
        self.inner.serialize_i128(value)
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        self.seen.differs.set(true);
        self.inner.serialize_u128(value)
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.number(value.is_finite());
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.number(value.is_finite());
        self.inner.serialize_f64(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.no_plain_key();
        self.inner.serialize_bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.no_plain_key();
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.no_plain_key();
        let value = Watched {
            value,
            seen: self.seen,
            key: self.key,
        };
        self.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.no_plain_key();
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        // An empty array in one format, nothing in the other.
        self.seen.differs.set(true);
        self.inner.serialize_unit_struct(name)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Watched {
            value,
            seen: self.seen,
            key: self.key,
        };
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.no_plain_key();
        let value = Watched::new(value, self.seen);
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! items {
    ($($trait:ident::$method:ident,)*) => {
        $(
            impl<C: $trait> $trait for Compound<'_, C> {
                type Ok = C::Ok;
                type Error = C::Error;

                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                    self.inner.$method(&Watched::new(value, self.seen))
                }

                #[inline]
                fn end(self) -> Result<C::Ok, C::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

macro_rules! fields {
    ($($trait:ident,)*) => {
        $(
            impl<C: $trait> $trait for Compound<'_, C> {
                type Ok = C::Ok;
                type Error = C::Error;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    key: &'static str,
                    value: &T,
                ) -> Result<(), C::Error> {
                    self.inner.serialize_field(key, &Watched::new(value, self.seen))
                }

                #[inline]
                fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                    self.inner.skip_field(key)
                }

                #[inline]
                fn end(self) -> Result<C::Ok, C::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

items! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

fields! {
    SerializeStruct,
    SerializeStructVariant,
}

impl<C: SerializeMap> SerializeMap for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&Watched {
            value: key,
            seen: self.seen,
            key: true,
        })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&Watched::new(value, self.seen))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
