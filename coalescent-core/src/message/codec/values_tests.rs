//! Tests of values that only one of the formats can represent.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

use super::*;

/// Every kind of value that serde can serialize.
#[derive(Clone, Debug)]
enum SerdeValue {
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

fn serde_value() -> impl Strategy<Value = SerdeValue> {
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

proptest! {
    /// A message either arrives as if its body had been sent on its own, or is an error for its
    /// sender.
    #[test]
    fn a_message_preserves_its_body_in_either_format(body in serde_value()) {
        for codec in [Codec::msgpack(), Codec::json()] {
            let direct = codec.encode_body("kind", &body);
            let made = codec.encode(&Message::new("kind", &body));
            prop_assert_eq!(direct.as_ref().ok(), made.as_ref().ok(), "{:?} {:?}", direct, made);
        }
    }

    #[test]
    fn a_header_preserves_its_value_in_json(header in serde_value()) {
        let alone = serde_json::to_string(&header);
        let message = Message::new("kind", &()).with_header("h", &header);
        let sent = Codec::json().encode(&message);
        prop_assert_eq!(sent.is_ok(), Codec::json().encode_body("kind", &header).is_ok());
        if let Ok(payload) = sent {
            let text = String::from_utf8(payload.to_vec()).expect("JSON is text");
            let alone = transcode::one_line(alone.expect("it was sent").as_bytes());
            let alone = String::from_utf8(alone).expect("JSON is text");
            let expected = format!(r#"{{"type":"kind","body":null,"headers":{{"h":{alone}}}}}"#);
            prop_assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_json_integer_is_preserved_or_rejected(number in any::<i128>(), shift in 0..128_u32) {
        let number = number >> shift;
        let text = format!("[{number}]");
        let message = Message::encoded("x", Format::Json, text.clone().into());
        let codec = Codec::msgpack();
        let fits = i64::try_from(number).is_ok() || u64::try_from(number).is_ok();
        match codec.encode(&message) {
            Ok(payload) => {
                prop_assert!(fits);
                let there = codec.decode(&payload).unwrap();
                prop_assert_eq!(there.body_to_json_string().unwrap(), text);
            }
            Err(error) => {
                prop_assert!(!fits);
                prop_assert!(error.is_body() && error.to_string().contains(&number.to_string()), "{}", error);
            }
        }
    }

    #[test]
    fn a_json_float_is_preserved(number in any::<f64>()) {
        prop_assume!(number.is_finite());
        // As the shortest digits that mean the float, in all 17 digits that it may need, and in
        // full.
        let shortest = serde_json::to_string(&number).unwrap();
        for text in [shortest.clone(), format!("{number:.16e}"), format!("{number:.800e}")] {
            let message = Message::encoded("x", Format::Json, text.into());
            let codec = Codec::msgpack();
            let there = codec.decode(&codec.encode(&message).unwrap()).unwrap();
            prop_assert_eq!(&there.body_to_json_string().unwrap(), &shortest);
        }
    }

    #[test]
    fn a_json_decimal_that_would_change_is_rejected(digits in 0..1_000_000_000_000_000_000_000_u128) {
        // Odd, so that no digit is dropped.
        let digits = digits | 1;
        let text = format!("0.{digits:021}");
        let message = Message::encoded("x", Format::Json, text.clone().into());
        let kept = Codec::msgpack().encode(&message).is_ok();
        let float: f64 = text.parse().unwrap();
        prop_assert_eq!(kept, format!("{float:.21}") == text, "{}", text);
    }
}

#[test]
fn numbers_that_message_pack_would_change_are_rejected() {
    let encode = |text: &'static str| {
        let body = Bytes::from_static(text.as_bytes());
        Codec::msgpack().encode(&Message::encoded("x", Format::Json, body))
    };
    for text in [
        "18446744073709551616",
        "-9223372036854775809",
        "1e400",
        "-1e400",
        "1e-400",
        r#"{"a":["\"1",18446744073709551616]}"#,
        r#"{"a":-0.00000001e-390}"#,
        "3.14159265358979323846",
        "9007199254740993.0",
        "1.2345678901234567890123e25",
    ] {
        assert!(encode(text).unwrap_err().is_body(), "{text}");
    }
    for text in [
        "18446744073709551615",
        "-9223372036854775808",
        "-0",
        "0e400",
        "0.000e-999",
        "1e300",
        "3.141592653589793",
        "0.1",
        "0.10000000000000001",
        "100.00e-2",
        "9.9999999999999992e22",
        "18446744073709551616.0",
        "0.1000000000000000055511151231257827021181583404541015625",
        "2.2250738585072014e-308",
        "5e-324",
        r#"{"18446744073709551616":"1e400"}"#,
        r#""\"1e400""#,
    ] {
        assert!(encode(text).is_ok(), "{text}: {:?}", encode(text));
    }
    // JSON keeps each number unchanged.
    let body = Bytes::from_static(b"18446744073709551616");
    let payload = Codec::json().encode(&Message::encoded("x", Format::Json, body));
    assert_eq!(
        payload.unwrap(),
        r#"{"type":"x","body":18446744073709551616}"#
    );
    let header = Message::new("x", &1).with_header(
        "h",
        &RawValue::from_string("18446744073709551616".to_owned()).unwrap(),
    );
    assert!(Codec::msgpack().encode(&header).is_err());
}

#[test]
fn values_that_json_lacks_are_an_error_for_the_sender() {
    let pairs = BTreeMap::from([((1, 2), 3)]);
    let floats = json!({ "fine": 0.5 });
    for codec in [Codec::json(), Codec::json().type_param("t")] {
        for error in [
            codec.encode_body("x", &f64::NAN).unwrap_err(),
            codec.encode_body("x", &[f32::INFINITY]).unwrap_err(),
            codec
                .encode_body("x", &Some(f64::NEG_INFINITY))
                .unwrap_err(),
            codec.encode_body("x", &pairs).unwrap_err(),
            codec.encode(&Message::new("x", &f64::NAN)).unwrap_err(),
            codec.encode(&Message::new("x", &pairs)).unwrap_err(),
            codec
                .encode(&Message::new("x", &1).with_header("h", &f32::NAN))
                .unwrap_err(),
            codec
                .encode(&Message::new("x", &1).with_header("h", &pairs))
                .unwrap_err(),
        ] {
            assert!(error.is_encode(), "{error}");
        }
        assert!(codec.encode_body("x", &floats).is_ok());
    }
    // MessagePack can represent all of these.
    let codec = Codec::msgpack();
    let payload = codec.encode(&Message::new("x", &f64::NAN)).unwrap();
    assert!(
        codec
            .decode(&payload)
            .unwrap()
            .body::<f64>()
            .unwrap()
            .is_nan()
    );
    let payload = codec.encode(&Message::new("x", &pairs)).unwrap();
    let message = codec.decode(&payload).unwrap();
    assert_eq!(message.body::<BTreeMap<(u8, u8), u8>>().unwrap(), pairs);
    // A received value is displayed, but not converted for sending.
    assert_eq!(message.body_to_json_string().unwrap(), r#"{"920102":3}"#);
    assert!(Codec::json().encode(&message).unwrap_err().is_body());
    for body in [
        &b"\xcb\x7f\xf8\0\0\0\0\0\0"[..],
        b"\xa1\xff",
        b"\x81\xc0\x01",
        b"\x81\xc4\x01a\x01",
    ] {
        let message = Message::encoded("x", Format::MessagePack, Bytes::from_static(body));
        assert!(message.body_to_json_string().is_ok());
        assert!(
            Codec::json().encode(&message).unwrap_err().is_body(),
            "{body:?}"
        );
    }
}

#[test]
fn wide_integers_are_numbers_in_json_and_exact_in_both() {
    for number in [7, u128::from(u64::MAX), u128::MAX] {
        for codec in [Codec::msgpack(), Codec::json()] {
            for payload in [
                codec.encode(&Message::new("x", &number)),
                codec.encode_owned(Message::new("x", &number)),
                codec.encode_body("x", &number),
            ] {
                let message = codec.decode(&payload.unwrap()).unwrap();
                assert_eq!(message.body::<u128>().unwrap(), number);
            }
        }
        let message = Message::new("x", &number).with_header("h", &-(number as i128 >> 1));
        let text = String::from_utf8(Codec::json().encode(&message).unwrap().to_vec()).unwrap();
        let header = -(number as i128 >> 1);
        assert_eq!(
            text,
            format!(r#"{{"type":"x","body":{number},"headers":{{"h":{header}}}}}"#)
        );
        assert_eq!(message.body_to_json_string().unwrap(), number.to_string());
    }
}

#[test]
fn json_text_means_the_same_in_both_formats() {
    let text = RawValue::from_string("{\"a\": [1,\n 2.5]}".to_owned()).unwrap();
    for codec in [Codec::msgpack(), Codec::json()] {
        for payload in [
            codec.encode_body("x", &text),
            codec.encode(&Message::new("x", &text)),
        ] {
            let message = codec.decode(&payload.unwrap()).unwrap();
            assert_eq!(message.body_value().unwrap(), json!({ "a": [1, 2.5] }));
        }
    }
}
