//! Tests of the envelope, in both formats.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::depth::ScanError;
use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Ping {
    time: u64,
    from: IpAddr,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Deep {
    End,
    Inner(Box<Deep>),
}

fn ping() -> Ping {
    Ping {
        time: 1,
        from: [127, 0, 0, 1].into(),
    }
}

fn decode(codec: &Codec, payload: impl AsRef<[u8]>) -> Result<Message, CodecError> {
    codec.decode(&Bytes::copy_from_slice(payload.as_ref()))
}

fn json(payload: &str) -> Result<Message, CodecError> {
    decode(&Codec::json(), payload)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::from),
            vec((".{0,8}", inner), 0..20)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn messages_round_trip_between_formats(kind in ".{0,20}", body in values(), header in values()) {
        for first in [Codec::msgpack(), Codec::json()] {
            for second in [Codec::msgpack(), Codec::json()] {
                let message = Message::new(&kind, &body).with_header("k\"", &header);
                let once = first.decode(&first.encode(&message).unwrap()).unwrap();
                let twice = second.decode(&second.encode(&once).unwrap()).unwrap();
                prop_assert_eq!(twice.kind(), &kind);
                prop_assert_eq!(twice.body::<Value>().unwrap(), body.clone());
                prop_assert_eq!(twice.body_value().unwrap(), body.clone());
                prop_assert_eq!(twice.header::<Value>("k\"").unwrap().unwrap(), header.clone());
                prop_assert_eq!(twice.headers().collect::<Vec<_>>(), ["k\""]);
            }
        }
    }

    #[test]
    fn encode_body_equals_encode_of_new(kind in ".{0,20}", body in values()) {
        for codec in [Codec::msgpack(), Codec::json()] {
            let direct = codec.encode_body(&kind, &body).unwrap();
            prop_assert_eq!(&direct, &codec.encode(&Message::new(&kind, &body)).unwrap());
            prop_assert!(codec.format() == Format::MessagePack || !direct.contains(&b'\n'));
        }
    }

    #[test]
    fn scans_agree_with_the_decoder_on_garbage(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(len) = depth::msgpack(&bytes, MAX_DEPTH) {
            let mut rest = &bytes[..];
            let mut reader = rmp_serde::Deserializer::new(&mut rest);
            if serde::de::IgnoredAny::deserialize(&mut reader).is_ok() {
                prop_assert_eq!(len, bytes.len() - rest.len());
            }
        }
        let _ = decode(&Codec::json(), &bytes);
        let _ = decode(&Codec::msgpack(), &bytes);
    }

    #[test]
    fn any_message_pack_is_valid_json_on_one_line(bytes in vec(any::<u8>(), 0..200)) {
        // Splits the garbage into several values.
        let mut rest = &bytes[..];
        while let Ok(len) = depth::msgpack(rest, MAX_DEPTH) {
            let (value, tail) = rest.split_at(len);
            let value = Bytes::copy_from_slice(value);
            let message = Message::encoded("x", Format::MessagePack, value.clone());
            let text = message.body_to_json_string().unwrap();
            prop_assert!(!text.contains(['\n', '\r']));
            prop_assert!(text.len() <= 7 * value.len() + 16, "{} from {}", text.len(), value.len());
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{text}");
            rest = tail;
        }
    }
}

#[test]
fn an_envelope_has_its_documented_bytes() {
    let message = Message::new("ping", &json!({ "time": 1 }));
    let msgpack = Codec::msgpack().encode(&message).unwrap();
    assert_eq!(msgpack, &b"\x93\xa4ping\xc0\x81\xa4time\x01"[..]);
    let json = Codec::json().encode(&message).unwrap();
    assert_eq!(json, r#"{"type":"ping","body":{"time":1}}"#);

    let message = message
        .with_header("a", &1)
        .with_header("b", &2)
        .with_header("a", &3);
    let msgpack = Codec::msgpack().encode(&message).unwrap();
    assert_eq!(
        msgpack,
        &b"\x93\xa4ping\x82\xa1b\x02\xa1a\x03\x81\xa4time\x01"[..]
    );
    let json = Codec::json().encode(&message).unwrap();
    assert_eq!(
        json,
        r#"{"type":"ping","body":{"time":1},"headers":{"b":2,"a":3}}"#
    );
}

#[test]
fn structs_are_maps_of_readable_values_in_both_formats() {
    for codec in [Codec::msgpack(), Codec::json()] {
        let payload = codec.encode(&Message::new("ping", &ping())).unwrap();
        let message = codec.decode(&payload).unwrap();
        assert_eq!(message.body::<Ping>().unwrap(), ping());
        assert_eq!(
            message.body_value().unwrap(),
            json!({ "time": 1, "from": "127.0.0.1" })
        );
        let error = message.body::<Vec<u8>>().unwrap_err();
        assert!(
            error.is_body() && error.to_string().contains("Vec<u8>"),
            "{error}"
        );
    }
}

#[test]
fn a_decoded_body_is_a_slice_of_its_payload() {
    for codec in [Codec::msgpack(), Codec::json()] {
        let payload = codec.encode_body("x", "a body").unwrap();
        let range = payload.as_ptr_range();
        let message = codec.decode(&payload).unwrap();
        assert!(range.contains(&message.body_bytes().as_ptr()));
    }
}

#[test]
fn a_value_can_borrow_from_its_message() {
    for codec in [Codec::msgpack(), Codec::json()] {
        let payload = codec.encode_body("x", &["a", "body"]).unwrap();
        let range = payload.as_ptr_range();
        let message = codec.decode_owned(payload).unwrap();
        let texts: [&str; 2] = message.body().unwrap();
        assert_eq!(texts, ["a", "body"]);
        assert!(range.contains(&texts[1].as_ptr()));
        assert_eq!(message.body_to_bytes(), message.body_bytes());
    }
}

#[test]
fn an_existing_envelope_is_reused() {
    let codec = Codec::msgpack();
    let message = codec
        .decode_owned(codec.encode_body("x", "a body").unwrap())
        .unwrap();
    let start = message.body_bytes().as_ptr_range().end;
    let same = codec.encode_owned(message.clone()).unwrap();
    assert_eq!(same.as_ptr_range().end, start);
    let other = message.with_header("h", &1);
    let payload = codec.encode(&other).unwrap();
    assert_eq!(codec.encode_owned(other).unwrap(), payload);
    assert_eq!(payload, &b"\x93\xa1x\x81\xa1h\x01\xa6a body"[..]);
}

#[test]
fn invalid_message_pack_envelopes_are_rejected() {
    let bad: [&[u8]; 12] = [
        b"",
        b"\xc0",
        b"\x92\xa1x\xc0",
        b"\x94\xa1x\xc0\xc0\xc0",
        b"\x93\xa1x\xc0",
        b"\x93\xa1x\xc0\xc0\xc0",
        b"\x93\x01\xc0\xc0",
        b"\x93\xa1\xff\xc0\xc0",
        b"\x93\xa1x\x01\xc0",
        b"\x93\xa1x\x81\x01\x01\xc0",
        b"\x93\xa1x\x81\xa1\xff\x01\xc0",
        b"\x93\xa1x\xc0\xdd\xff\xff\xff\xff\xc0",
    ];
    for payload in bad {
        assert!(
            decode(&Codec::msgpack(), payload)
                .unwrap_err()
                .is_envelope(),
            "{payload:?}"
        );
    }
    for good in [
        &b"\xdc\0\x03\xa1x\xc0\x01"[..],
        b"\x93\xa1x\x80\x01",
        b"\x93\xd9\x01x\xc0\x01",
    ] {
        assert_eq!(
            decode(&Codec::msgpack(), good)
                .unwrap()
                .body::<u8>()
                .unwrap(),
            1
        );
    }
}

#[test]
fn json_is_decoded_like_json_parse() {
    let message = json(
        " {\"x\": [1], \"body\" : 1, \"t\\u0079pe\" : 5,\r\n\"type\":\"\\u0070\", \"body\": [ 2 ] } ",
    );
    let message = message.unwrap();
    assert_eq!(
        (message.kind(), message.body::<Value>().unwrap()),
        ("p", json!([2]))
    );
    assert_eq!(json(r#"{"type":"__proto__"}"#).unwrap().body_bytes(), b"{}");
    json(r#"{"type":"x"}"#).unwrap().body::<()>().unwrap();
    assert!(
        json(r#"{"type":"x","headers":null}"#)
            .unwrap()
            .headers()
            .next()
            .is_none()
    );
    let twice = json(r#"{"type":"x","headers":{"a":1,"a":2}}"#).unwrap();
    assert_eq!(twice.header::<u8>("a").unwrap().unwrap(), 2);
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        "5",
        r#"{"body":1}"#,
        r#"{"type":null}"#,
        r#"{"type":1}"#,
        r#"{"type":"x"} x"#,
        r#"{"type":"x","body":}"#,
        r#"{"type":"x","body":[1,]}"#,
        r#"{"type":"x","headers":[]}"#,
        r#"{"type":"\ud800"}"#,
        r#"{"type":"x","headers":{"\ud800":1}}"#,
    ] {
        assert!(json(bad).unwrap_err().is_envelope(), "{bad}");
    }
    let not_utf8 = b"{\"type\":\"x\",\"other\":\"\xff\"}";
    assert!(decode(&Codec::json(), not_utf8).unwrap_err().is_envelope());
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
enum Command {
    Go { fast: bool },
    ConnectionHandle,
}

#[test]
fn quotes_of_a_peer_in_errors_are_short_and_escaped() {
    let long = "A".repeat(100_000);
    let said = format!("\u{1b}[2J\n\u{9b}31m\u{202e}{long}");
    let quoted = serde_json::to_string(&said).unwrap();
    let errors = [
        json(&quoted).unwrap_err(),
        Message::new("go", &said).body::<Command>().unwrap_err(),
        Message::new("go", &said).body::<u64>().unwrap_err(),
        Message::new("go", &BTreeMap::from([(&said, 1)]))
            .body::<Command>()
            .unwrap_err(),
        json(&format!(r#"{{"type":"go","body":{quoted}}}"#))
            .unwrap()
            .body::<Command>()
            .unwrap_err(),
        json(&format!(
            r#"{{"type":"go","body":{{"Go":{{{quoted}:1}}}}}}"#
        ))
        .unwrap()
        .body::<Command>()
        .unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(
            !text.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
        assert!(text.matches('A').count() <= 64, "{text}");
    }
    let error = Message::new("go", "fly").body::<Command>().unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("unknown variant `fly`, expected `Go` or `ConnectionHandle`"),
        "{error}"
    );
}

#[test]
fn json_keys_can_be_renamed() {
    let codec = Codec::json().type_param("event").body_param("data");
    let payload = codec.encode_body("x", &1).unwrap();
    assert_eq!(payload, r#"{"event":"x","data":1}"#);
    let message = decode(&codec, r#"{"type":"a","body":2,"event":"b","data":3}"#).unwrap();
    assert_eq!((message.kind(), message.body::<u8>().unwrap()), ("b", 3));
}

#[test]
#[should_panic(expected = "choose other names")]
fn json_keys_must_differ() {
    let _ = Codec::json().type_param("body");
}

#[test]
#[should_panic(expected = "choose other names")]
fn json_keys_must_not_be_headers() {
    let _ = Codec::json().body_param("headers");
}

#[test]
fn json_bodies_are_written_on_one_line() {
    let codec = Codec::json();
    let message = json("{\"type\":\"x\",\"body\":{\r\n \"a b\" : \"c \\\" d\\n\" }\n}").unwrap();
    let expected = r#"{"type":"x","body":{"a b":"c \" d\n"}}"#;
    assert_eq!(codec.encode(&message).unwrap(), expected);
    assert_eq!(
        message.body_to_json_string().unwrap(),
        r#"{"a b":"c \" d\n"}"#
    );
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str("[1,\n2]").unwrap();
    assert_eq!(
        codec.encode_body("x", &raw).unwrap(),
        r#"{"type":"x","body":[1,2]}"#
    );
}

#[test]
fn an_unserializable_body_fails_to_encode() {
    struct Bad;
    impl Serialize for Bad {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("bad".repeat(1000)))
        }
    }
    for codec in [Codec::msgpack(), Codec::json()] {
        for message in [
            Message::new("x", &Bad),
            Message::new("x", &1).with_header("h", &Bad),
        ] {
            assert_eq!(message.kind(), "x");
            let error = codec.encode(&message).unwrap_err();
            assert!(error.is_encode() && error.to_string().len() < 400);
        }
        assert!(codec.encode_body("x", &Bad).unwrap_err().is_encode());
        for (format, body) in [
            (Format::Json, &b"{"[..]),
            (Format::Json, b"1 2"),
            (Format::Json, b"\"\xff\""),
            (Format::MessagePack, b"\x01\x01"),
            (Format::MessagePack, b"\xc1"),
            (Format::MessagePack, b""),
        ] {
            let message = Message::encoded("x", format, Bytes::from_static(body));
            assert!(codec.encode(&message).unwrap_err().is_body(), "{body:?}");
            assert!(message.body::<Value>().unwrap_err().is_body());
            assert!(message.body_to_json_string().unwrap_err().is_body());
        }
    }
}

#[test]
fn values_that_json_lacks_can_be_displayed() {
    let text = |bytes: &'static [u8]| {
        Message::encoded("x", Format::MessagePack, Bytes::from_static(bytes))
            .body_to_json_string()
            .unwrap()
    };
    assert_eq!(text(b"\xcb\x7f\xf8\0\0\0\0\0\0"), "null");
    assert_eq!(text(b"\xca\x7f\x80\0\0"), "null");
    assert_eq!(text(b"\xca\x3d\xcc\xcc\xcd"), "0.1");
    assert_eq!(text(b"\xc4\x02\x01\xff"), "[1,255]");
    assert_eq!(text(b"\xd5\xff\x01\x02"), "[-1,[1,2]]");
    assert_eq!(text(b"\xa3a\xff\n"), "\"a\u{fffd}\\n\"");
    assert_eq!(
        text(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        "18446744073709551615"
    );
    assert_eq!(text(b"\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
    assert_eq!(
        text(b"\x86\x01\x01\xff\x02\xc0\x03\xc3\x04\x91\x05\x06\xc4\x01a\x07"),
        r#"{"1":1,"-1":2,"null":3,"true":4,"9105":6,"c40161":7}"#
    );
    assert_eq!(
        text(b"\x93\x90\x80\x92\x81\xa1a\x90\x01"),
        r#"[[],{},[{"a":[]},1]]"#
    );
}

#[test]
fn units_accept_every_form_of_nothing() {
    for codec in [Codec::msgpack(), Codec::json()] {
        for payload in [codec.encode_body("x", &Unit), codec.encode_body("x", &())] {
            let message = codec.decode(&payload.unwrap()).unwrap();
            assert_eq!(message.body::<Unit>().unwrap(), Unit);
            message.body::<()>().unwrap();
        }
        let crossed = codec.encode(&Message::new("x", &Unit)).unwrap();
        assert_eq!(
            codec.decode(&crossed).unwrap().body::<Unit>().unwrap(),
            Unit
        );
        let other = codec.decode(&codec.encode_body("x", &1).unwrap()).unwrap();
        assert!(other.body::<()>().unwrap_err().is_body());
    }
}

#[test]
fn integer_keys_survive_both_formats() {
    let map = BTreeMap::from([(1_u32, true), (2, false)]);
    for codec in [Codec::msgpack(), Codec::json()] {
        let message = codec
            .decode(&codec.encode(&Message::new("x", &map)).unwrap())
            .unwrap();
        assert_eq!(message.body::<BTreeMap<u32, bool>>().unwrap(), map);
    }
}

/// Returns a payload whose body nests `depth` deep: arrays, maps, or the variants of [`Deep`].
fn nested(format: Format, depth: usize, maps: bool) -> Vec<u8> {
    let (start, middle, end): (&[u8], &[u8], &[u8]) = match format {
        Format::MessagePack if maps => (b"\x81\xa5Inner", b"\xa3End", b""),
        Format::MessagePack => (b"\x91", b"\x01", b""),
        Format::Json if maps => (b"{\"Inner\":", b"\"End\"", b"}"),
        Format::Json => (b"[", b"1", b"]"),
    };
    let body = [start.repeat(depth), middle.to_vec(), end.repeat(depth)].concat();
    match format {
        Format::MessagePack => [b"\x93\xa1x\xc0", &body[..]].concat(),
        Format::Json => [b"{\"type\":\"x\",\"body\":", &body[..], b"}"].concat(),
    }
}

#[test]
fn the_deepest_body_fits_a_small_stack_and_a_deeper_one_is_rejected() {
    let work = || {
        for codec in [Codec::msgpack(), Codec::json()] {
            for maps in [false, true] {
                let payload = nested(codec.format(), MAX_DEPTH, maps);
                let message = decode(&codec, &payload).unwrap();
                let value = message.body::<Value>().unwrap();
                assert_eq!(message.body_value().unwrap(), value);
                if maps {
                    message.body::<Deep>().unwrap();
                }
                for other in [Codec::msgpack(), Codec::json()] {
                    let crossed = other.decode(&other.encode(&message).unwrap()).unwrap();
                    assert_eq!(crossed.body::<Value>().unwrap(), value);
                }
                assert!(codec.encode_body("x", &value).is_ok());
                let deeper = vec![value];
                assert!(codec.encode_body("x", &deeper).unwrap_err().is_too_deep());
                let message = Message::new("x", &deeper);
                assert!(codec.encode(&message).unwrap_err().is_too_deep());

                for depth in [MAX_DEPTH + 1, 100_000] {
                    let payload = nested(codec.format(), depth, maps);
                    assert!(decode(&codec, &payload).unwrap_err().is_too_deep());
                }
                let shallow = codec.clone().max_depth(3);
                assert!(decode(&shallow, nested(codec.format(), 3, maps)).is_ok());
                let payload = nested(codec.format(), 4, maps);
                assert!(decode(&shallow, &payload).unwrap_err().is_too_deep());
                let message = decode(&codec, &payload).unwrap();
                assert!(shallow.encode(&message).unwrap_err().is_too_deep());
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn header_depth_includes_the_header_map() {
    for (depth, fits) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false)] {
        let value: Value = (0..depth).fold(json!(1), |inner, _| json!([inner]));
        let msgpack = [
            b"\x93\xa1x\x81\xa1h",
            &[0x91].repeat(depth)[..],
            b"\x01\xc0",
        ]
        .concat();
        let json = format!(r#"{{"type":"x","headers":{{"h":{value}}}}}"#).into_bytes();
        for (codec, payload) in [(Codec::msgpack(), msgpack), (Codec::json(), json)] {
            match decode(&codec, &payload) {
                Ok(message) => assert_eq!(message.header::<Value>("h").unwrap().unwrap(), value),
                Err(error) => assert!(!fits && error.is_too_deep(), "{error}"),
            }
            let message = Message::new("x", &1).with_header("h", &value);
            assert_eq!(codec.encode(&message).is_ok(), fits);
        }
    }
}

#[test]
fn json_depth_counts_the_json_form() {
    // In JSON, binary takes one more level, an extension two.
    let values: [(&[u8], usize); 3] = [(b"\x01", 0), (b"\xc4\x01a", 1), (b"\xd4\x01a", 2)];
    for (value, more) in values {
        for depth in MAX_DEPTH - 4..=MAX_DEPTH {
            let value = [&[0x91].repeat(depth)[..], value].concat();
            let body = [b"\x93\xa1x\xc0", &value[..]].concat();
            let header = [b"\x93\xa1x\x81\xa1h", &value[..], b"\xc0"].concat();
            for (payload, outside) in [(body, 0), (header, 1)] {
                let Ok(message) = decode(&Codec::msgpack(), &payload) else {
                    assert!(depth + outside > MAX_DEPTH);
                    continue;
                };
                match Codec::json().encode(&message) {
                    Ok(payload) => drop(Codec::json().decode(&payload).unwrap()),
                    Err(error) => {
                        assert!(error.is_too_deep());
                        assert!(depth + more + outside > MAX_DEPTH);
                    }
                }
            }
        }
    }
}

#[test]
fn brackets_inside_strings_do_not_nest() {
    let text = r#"[\"{\\"#.repeat(500);
    let message = json(&format!(r#"{{"type":"x","body":"{text}"}}"#)).unwrap();
    assert_eq!(message.body::<String>().unwrap(), r#"["{\"#.repeat(500));
}

#[test]
fn counts_and_lengths_are_not_trusted() {
    let claims: [&[u8]; 8] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\x01",
        b"\xdc\xff\xff",
        b"\xde\x00\x01\xc0",
        b"\xdb\xff\xff\xff\xffx",
        b"\xc6\xff\xff\xff\xffx",
        b"\xc9\xff\xff\xff\xff\x01x",
        b"\xd9",
    ];
    for claim in claims {
        assert_eq!(
            depth::msgpack(claim, MAX_DEPTH),
            Err(ScanError::Truncated),
            "{claim:?}"
        );
        let nested = [&[0xdd, 0, 0, 0, 1].repeat(MAX_DEPTH - 1)[..], claim].concat();
        assert_eq!(
            depth::msgpack(&nested, MAX_DEPTH),
            Err(ScanError::Truncated),
            "{claim:?}"
        );
    }
    assert_eq!(
        depth::msgpack(b"\xc1", MAX_DEPTH),
        Err(ScanError::Malformed)
    );
}
