use std::sync::Arc;

use bytes::Bytes;
use coalescent_core::codec::{Codec, CodecError, Seal};
use coalescent_core::identity::Identity;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::signed::author_of;

/// Signs with one key, at one time.
#[derive(Debug)]
struct At(Identity, u64, &'static str);

impl Seal for At {
    fn seal(&self, message: Message) -> Result<Message, CodecError> {
        let signed = signed(self.2, &message, self.1).expect("short enough");
        let signature = Signature {
            author: self.0.id(),
            at: self.1,
            sig: self.0.sign(&signed),
        };
        Ok(signature.add_to(message))
    }
}

fn codecs() -> [Codec; 3] {
    [
        Codec::msgpack(),
        Codec::json(),
        Codec::json().type_param("t").body_param("b"),
    ]
}

fn sealed(codec: &Codec, identity: &Identity) -> Codec {
    codec
        .clone()
        .sealed_by(Arc::new(At(identity.clone(), 7, "net")))
}

fn decoded(codec: &Codec, payload: &Bytes) -> Message {
    codec.decode(payload).unwrap()
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let message = Codec::json()
        .decode(&Bytes::from_static(
            b" {\"type\" : \"a\\u0062c\", \"body\": \n [1, 2]\t }",
        ))
        .unwrap();
    let expected = b"coalescent/sig/1\0\x03net\0\x03abc\0\0\0\0\0\0\x01\x02[1, 2]";
    assert_eq!(signed("net", &message, 0x102).unwrap(), expected);
    let without = Codec::json().decode(&Bytes::from_static(b"{\"type\":\"abc\"}"));
    let expected = b"coalescent/sig/1\0\0\0\x03abc\xff\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(signed("", &without.unwrap(), u64::MAX).unwrap(), expected);
    let msgpack = Message::new("abc", &json!({"a": 1}));
    let expected = b"coalescent/sig/1\0\0\0\x03abc\0\0\0\0\0\0\0\0\x81\xa1a\x01";
    assert_eq!(signed("", &msgpack, 0).unwrap(), expected);
}

#[test]
fn white_space_around_json_does_not_count() {
    let padded = Message::encoded("x", Format::Json, Bytes::from_static(b" \n[1] \t"));
    assert_eq!(body(&padded), b"[1]");
    let identity = Identity::generate();
    let codec = sealed(&Codec::json(), &identity);
    let payload = codec.encode(&padded).unwrap();
    let author = author_of(&decoded(&codec, &payload), "net").unwrap();
    assert_eq!(*author.unwrap().key(), identity.id());
}

#[test]
fn names_that_are_too_long_cannot_be_signed() {
    let fits = "n".repeat(65_535);
    assert!(signed(&fits, &Message::new(&fits, &()), 0).is_ok());
    let long = "n".repeat(65_536);
    assert_eq!(signed("", &Message::new(&long, &()), 0), Err(TooLong));
    assert_eq!(signed(&long, &Message::new("", &()), 0), Err(TooLong));
    // Whoever receives such a message finds the signature invalid.
    let signature = Signature {
        author: Identity::generate().id(),
        at: 0,
        sig: [0; SIGNATURE_LEN],
    };
    assert!(author_of(&signature.add_to(Message::new(&long, &())), "").is_err());
}

#[test]
fn a_signature_survives_encoding_in_every_codec() {
    let identity = Identity::generate();
    let bodies = [
        json!(null),
        json!({"text": "line\nbreak \u{1f600}", "list": [1, -2, 1.5, true]}),
        json!("x".repeat(70_000)),
    ];
    for codec in codecs() {
        let sealed = sealed(&codec, &identity);
        for body in &bodies {
            let message = Message::new("kind", body).with_header("hops", &3);
            let own = Message::new("kind", body);
            for payload in [
                sealed.encode_body("kind", body).unwrap(),
                sealed.encode(&message).unwrap(),
                sealed.encode_owned(own).unwrap(),
            ] {
                let message = decoded(&codec, &payload);
                let author = author_of(&message, "net").unwrap().unwrap();
                assert_eq!((*author.key(), author.at_millis()), (identity.id(), 7));
                assert_eq!(message.body_value().unwrap(), *body);
                assert!(author_of(&message, "other").is_err());
                // Passed on by an application: the payload stays as it is.
                let again = codec.encode(&message).unwrap();
                assert!(author_of(&decoded(&codec, &again), "net").is_ok());
            }
        }
        let mixed = Message::encoded("kind", Format::Json, Bytes::from_static(b"[1,\r\n2]"));
        let payload = sealed.encode(&mixed).unwrap();
        let message = decoded(&codec, &payload);
        assert!(author_of(&message, "net").unwrap().is_some());
    }
}

#[test]
fn headers_are_as_the_specification_says() {
    let identity = Identity::generate();
    let json = sealed(&Codec::json(), &identity);
    let message = decoded(&json, &json.encode_body("x", &1).unwrap());
    let text: String = message.header(AUTHOR).unwrap().unwrap();
    assert_eq!(text, identity.id().to_string());
    let text: String = message.header(SIG).unwrap().unwrap();
    assert_eq!(text.len(), 128);
    assert_eq!(text, text.to_ascii_lowercase());

    let msgpack = sealed(&Codec::msgpack(), &identity);
    let payload = msgpack.encode_body("x", &1).unwrap();
    let id = identity.id();
    let start = [
        &b"\x93\xa1x\x83\xa6author\xc4\x20"[..],
        id.as_bytes(),
        b"\xa2at\x07\xa3sig\xc4\x40",
    ];
    let start = start.concat();
    assert_eq!(payload[..start.len()], start);
    assert_eq!(payload.len(), start.len() + 64 + 1);
}

#[test]
fn hexadecimal_digits_are_read_in_either_case() {
    let identity = Identity::generate();
    let codec = sealed(&Codec::json(), &identity);
    let payload = codec.encode_body("x", &1).unwrap();
    let message = decoded(&codec, &payload);
    let upper = |key| {
        let text: String = message.header(key).unwrap().unwrap();
        text.to_ascii_uppercase()
    };
    let shouted = Message::encoded("x", Format::Json, Bytes::from_static(b"1"))
        .with_header(AUTHOR, &upper(AUTHOR))
        .with_header(AT, &7)
        .with_header(SIG, &upper(SIG));
    let payload = Codec::json().encode(&shouted).unwrap();
    let author = author_of(&decoded(&codec, &payload), "net").unwrap();
    assert_eq!(*author.unwrap().key(), identity.id());
}

#[test]
fn headers_of_another_shape_prove_nothing() {
    let key = Identity::generate().id().to_string();
    let sig = "0".repeat(128);
    let payloads = |author: &str, at: &str, sig: &str| {
        let text = format!(
            r#"{{"type":"x","body":1,"headers":{{"author":{author},"at":{at},"sig":{sig}}}}}"#
        );
        Bytes::from(text)
    };
    let (author, at) = (format!("\"{key}\""), "1");
    let quoted = format!("\"{sig}\"");
    let good = payloads(&author, at, &quoted);
    assert!(Signature::of(&decoded(&Codec::json(), &good)).is_ok_and(|found| found.is_some()));
    let short = |text: &str, by: usize| format!("\"{}\"", &text[..text.len() - by]);
    for bad in [
        payloads(&short(&key, 1), at, &quoted),
        payloads(&short(&key, 2), at, &quoted),
        payloads(&format!("\"{key}00\""), at, &quoted),
        payloads(&format!("\"{}\"", "g".repeat(64)), at, &quoted),
        payloads(&format!("\"{}\"", "é".repeat(32)), at, &quoted),
        payloads(&format!("\"{}\"", "0".repeat(64)), at, &quoted),
        payloads("null", at, &quoted),
        payloads("[1]", at, &quoted),
        payloads(&author, "-1", &quoted),
        payloads(&author, "1.5", &quoted),
        payloads(&author, "18446744073709551616", &quoted),
        payloads(&author, "\"1\"", &quoted),
        payloads(&author, at, &short(&sig, 1)),
        payloads(&author, at, &format!("\"{sig}0\"")),
        payloads(&author, at, &format!("\"{}\"", "0".repeat(1 << 20))),
        payloads(&author, at, "null"),
        payloads(&author, at, "{}"),
        Bytes::from(format!(r#"{{"type":"x","headers":{{"sig":{quoted}}}}}"#)),
    ] {
        let message = decoded(&Codec::json(), &bad);
        assert_eq!(Signature::of(&message), Err(Malformed), "{message:?}");
    }
    // Without a signature the rest means nothing.
    let claimed = format!(r#"{{"type":"x","headers":{{"author":{author}}}}}"#);
    let claimed = decoded(&Codec::json(), &claimed.into());
    assert_eq!(Signature::of(&claimed), Ok(None));

    for (author, sig) in [
        (32, 63),
        (32, 65),
        (31, 64),
        (33, 64),
        (0, 64),
        (32, 100_000),
    ] {
        let message = Message::new("x", &1)
            .with_header(AUTHOR, &Binary(&vec![9; author]))
            .with_header(AT, &1)
            .with_header(SIG, &Binary(&vec![0; sig]));
        assert_eq!(Signature::of(&message), Err(Malformed), "{author} {sig}");
    }
    // In MessagePack, text is no binary.
    let text = Message::new("x", &1)
        .with_header(AUTHOR, &key)
        .with_header(AT, &1)
        .with_header(SIG, &sig);
    assert_eq!(Signature::of(&text), Err(Malformed));
}

/// Whether a payload is a message that the key has signed, as far as it can tell.
fn holds(codec: &Codec, payload: &Bytes, identity: &Identity) -> Option<Message> {
    let message = codec.decode(payload).ok()?;
    let author = author_of(&message, "net").ok()??;
    (*author.key() == identity.id()).then_some(message)
}

/// What a signature covers, as the application sees it.
fn covered(message: &Message) -> (String, Vec<u8>, u64) {
    let at: u64 = message.header(AT).unwrap().unwrap();
    (message.kind().to_owned(), body(message).to_vec(), at)
}

#[test]
fn no_bit_of_a_signed_message_can_be_changed() {
    let identity = Identity::generate();
    for codec in codecs() {
        let payload = sealed(&codec, &identity)
            .encode_body("chat", &json!({"text": "hello", "number": 12}))
            .unwrap();
        let original = covered(&holds(&codec, &payload, &identity).unwrap());
        let mut held = 0;
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut changed = payload.to_vec();
                changed[at] ^= 1 << bit;
                if let Some(message) = holds(&codec, &changed.into(), &identity) {
                    // Only the encoding of what is not signed may differ: hex digits in JSON.
                    assert_eq!(covered(&message), original, "byte {at}, bit {bit}");
                    held += 1;
                }
            }
        }
        match codec.format() {
            Format::Json => assert!(held <= 192, "{held}"),
            _ => assert_eq!(held, 0),
        }
    }
}

proptest! {
    #[test]
    fn no_change_of_a_signed_message_holds(
        codec in 0..3usize,
        kind in ".{0,20}",
        text in ".{0,200}",
        cut in any::<prop::sample::Index>(),
        taken in 0..20usize,
        put in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let identity = Identity::generate();
        let codec = codecs()[codec].clone();
        let payload = sealed(&codec, &identity).encode_body(&kind, &text).unwrap();
        let original = covered(&holds(&codec, &payload, &identity).expect("it is signed"));
        let mut changed = payload.to_vec();
        let at = cut.index(changed.len());
        let end = (at + taken).min(changed.len());
        changed.splice(at..end, put);
        if let Some(message) = holds(&codec, &changed.into(), &identity) {
            prop_assert_eq!(covered(&message), original);
        }
    }

    #[test]
    fn parts_cannot_be_moved_across_their_borders(
        network in "[a-c]{0,4}", kind in "[a-c]{0,4}", body in "[a-c]{0,4}",
        network2 in "[a-c]{0,4}", kind2 in "[a-c]{0,4}", body2 in "[a-c]{0,4}",
    ) {
        let bytes = |network: &str, kind: &str, body: &str| {
            signed(network, &Message::new(kind, body), 1).unwrap()
        };
        let same = (&network, &kind, &body) == (&network2, &kind2, &body2);
        prop_assert_eq!(
            bytes(&network, &kind, &body) == bytes(&network2, &kind2, &body2),
            same
        );
    }
}
