//! Values of every kind that serde can serialize.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Every kind of value that serde can serialize.
#[derive(Clone, Debug)]
pub(super) enum SerdeValue {
    Bool(bool),
    I8(i8),
    I64(i64),
    I128(i128),
    U16(u16),
    U64(u64),
    U128(u128),
    F32(f32),
    F64(f64),
    Char(char),
    Str(String),
    Display(u32),
    Bytes(Vec<u8>),
    None,
    Some(Box<SerdeValue>),
    Unit,
    UnitStruct,
    UnitVariant,
    Newtype(Box<SerdeValue>),
    NewtypeVariant(Box<SerdeValue>),
    Seq(Vec<SerdeValue>, bool),
    Tuple(Vec<SerdeValue>),
    TupleStruct(Vec<SerdeValue>),
    TupleVariant(Vec<SerdeValue>),
    Map(Vec<(SerdeValue, SerdeValue)>, bool),
    Struct(Vec<SerdeValue>),
    StructVariant(Vec<SerdeValue>),
    JsonText(Box<RawValue>),
}

const FIELDS: [&str; 4] = ["a", "b", "c", "d"];

impl Serialize for SerdeValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => to.serialize_bool(*value),
            Self::I8(value) => to.serialize_i8(*value),
            Self::I64(value) => to.serialize_i64(*value),
            Self::I128(value) => to.serialize_i128(*value),
            Self::U16(value) => to.serialize_u16(*value),
            Self::U64(value) => to.serialize_u64(*value),
            Self::U128(value) => to.serialize_u128(*value),
            Self::F32(value) => to.serialize_f32(*value),
            Self::F64(value) => to.serialize_f64(*value),
            Self::Char(value) => to.serialize_char(*value),
            Self::Str(value) => to.serialize_str(value),
            Self::Display(value) => to.collect_str(value),
            Self::Bytes(value) => to.serialize_bytes(value),
            Self::None => to.serialize_none(),
            Self::Some(value) => to.serialize_some(value),
            Self::Unit => to.serialize_unit(),
            Self::UnitStruct => to.serialize_unit_struct("Unit"),
            Self::UnitVariant => to.serialize_unit_variant("Enum", 0, "unit"),
            Self::Newtype(value) => to.serialize_newtype_struct("New", value),
            Self::NewtypeVariant(value) => {
                to.serialize_newtype_variant("Enum", 1, "newtype", value)
            }
            Self::Seq(values, known) => {
                let mut to = to.serialize_seq(known.then_some(values.len()))?;
                for value in values {
                    to.serialize_element(value)?;
                }
                to.end()
            }
            Self::Tuple(values) => {
                let mut to = to.serialize_tuple(values.len())?;
                for value in values {
                    to.serialize_element(value)?;
                }
                to.end()
            }
            Self::TupleStruct(values) => {
                let mut to = to.serialize_tuple_struct("Tuple", values.len())?;
                for value in values {
                    to.serialize_field(value)?;
                }
                to.end()
            }
            Self::TupleVariant(values) => {
                let mut to = to.serialize_tuple_variant("Enum", 2, "tuple", values.len())?;
                for value in values {
                    to.serialize_field(value)?;
                }
                to.end()
            }
            Self::Map(entries, known) => {
                let mut to = to.serialize_map(known.then_some(entries.len()))?;
                for (key, value) in entries {
                    to.serialize_entry(key, value)?;
                }
                to.end()
            }
            Self::Struct(values) => {
                let mut to = to.serialize_struct("Struct", values.len())?;
                for (name, value) in FIELDS.into_iter().zip(values) {
                    to.serialize_field(name, value)?;
                }
                to.end()
            }
            Self::StructVariant(values) => {
                let mut to = to.serialize_struct_variant("Enum", 3, "struct", values.len())?;
                for (name, value) in FIELDS.into_iter().zip(values) {
                    to.serialize_field(name, value)?;
                }
                to.end()
            }
            Self::JsonText(value) => value.serialize(to),
        }
    }
}

pub(super) fn serde_value() -> impl Strategy<Value = SerdeValue> {
    let texts = prop_oneof![
        Just("7".to_owned()),
        Just("[1,\n{\"a\": 0.5}]".to_owned()),
        Just("18446744073709551616".to_owned()),
        any::<u64>().prop_map(|number| number.to_string()),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(SerdeValue::Bool),
        any::<i8>().prop_map(SerdeValue::I8),
        any::<i64>().prop_map(SerdeValue::I64),
        any::<i128>().prop_map(SerdeValue::I128),
        any::<u16>().prop_map(SerdeValue::U16),
        any::<u64>().prop_map(SerdeValue::U64),
        any::<u128>().prop_map(SerdeValue::U128),
        any::<f32>().prop_map(SerdeValue::F32),
        any::<f64>().prop_map(SerdeValue::F64),
        Just(SerdeValue::F64(f64::NAN)),
        Just(SerdeValue::F32(f32::NEG_INFINITY)),
        any::<char>().prop_map(SerdeValue::Char),
        ".{0,8}".prop_map(SerdeValue::Str),
        any::<u32>().prop_map(SerdeValue::Display),
        vec(any::<u8>(), 0..20).prop_map(SerdeValue::Bytes),
        Just(SerdeValue::None),
        Just(SerdeValue::Unit),
        Just(SerdeValue::UnitStruct),
        Just(SerdeValue::UnitVariant),
        texts.prop_map(|text| SerdeValue::JsonText(
            RawValue::from_string(text).expect("it is JSON")
        )),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let some = || vec(inner.clone(), 0..4);
        prop_oneof![
            inner
                .clone()
                .prop_map(|value| SerdeValue::Some(value.into())),
            inner
                .clone()
                .prop_map(|value| SerdeValue::Newtype(value.into())),
            inner
                .clone()
                .prop_map(|value| SerdeValue::NewtypeVariant(value.into())),
            (some(), any::<bool>()).prop_map(|(values, known)| SerdeValue::Seq(values, known)),
            some().prop_map(SerdeValue::Tuple),
            some().prop_map(SerdeValue::TupleStruct),
            some().prop_map(SerdeValue::TupleVariant),
            some().prop_map(SerdeValue::Struct),
            some().prop_map(SerdeValue::StructVariant),
            (vec((inner.clone(), inner.clone()), 0..3), any::<bool>())
                .prop_map(|(entries, known)| SerdeValue::Map(entries, known)),
            (vec((".{0,4}", inner.clone()), 0..3), any::<bool>()).prop_map(|(entries, known)| {
                let entries = entries.into_iter();
                SerdeValue::Map(
                    entries
                        .map(|(key, value)| (SerdeValue::Str(key), value))
                        .collect(),
                    known,
                )
            }),
        ]
    })
}
