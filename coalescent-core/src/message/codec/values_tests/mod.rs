//! Tests of values that only one of the formats can represent.

mod serde_value;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use serde_json::value::RawValue;

use self::serde_value::serde_value;
use super::*;

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
