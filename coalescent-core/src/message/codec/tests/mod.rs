//! Tests of the envelope, in both formats.

mod json_envelope;
mod nesting;
mod properties;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
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
