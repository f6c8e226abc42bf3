//! Properties that hold for generated bodies and for garbage.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

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
