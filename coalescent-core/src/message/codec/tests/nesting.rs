//! Tests of depth, counts and lengths.

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Deep {
    End,
    Inner(Box<Deep>),
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
