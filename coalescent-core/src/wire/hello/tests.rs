//! Tests of the HELLO, of node ids, and of BYE reasons.

use super::*;
use crate::wire::{decode_reason, encode_reason};

fn hello() -> Hello {
    Hello {
        node: NodeId::from_bytes(*b"0123456789abcdef"),
        net: "n".into(),
        agent: "a/1".into(),
        listen: None,
        seen: None,
        max: None,
        channels: Vec::new(),
    }
}

const HELLO_BYTES: &[u8] =
    b"\x84\xa1v\x01\xa4node\xc4\x100123456789abcdef\xa3net\xa1n\xa5agent\xa3a/1";

#[test]
fn a_hello_has_its_documented_bytes() {
    assert_eq!(hello().encode().unwrap(), HELLO_BYTES);
    assert_eq!(Hello::decode(HELLO_BYTES).unwrap(), hello());
    let listen = Hello {
        listen: Some("[::1]:1".into()),
        ..hello()
    };
    assert_eq!(Hello::decode(&listen.encode().unwrap()).unwrap(), listen);
}

#[test]
fn max_is_a_32_bit_integer() {
    let with = |value: &[u8]| {
        let mut bytes = HELLO_BYTES.to_vec();
        bytes[0] = 0x85;
        bytes.extend_from_slice(b"\xa3max");
        bytes.extend_from_slice(value);
        bytes
    };
    for (max, value) in [
        (0, &b"\0"[..]),
        (127, b"\x7f"),
        (1 << 20, b"\xce\0\x10\0\0"),
        (u32::MAX, b"\xce\xff\xff\xff\xff"),
    ] {
        let some = Hello {
            max: Some(max),
            ..hello()
        };
        assert_eq!(some.encode().unwrap(), with(value));
        assert_eq!(Hello::decode(&with(value)).unwrap(), some);
    }
    // Any integer format is accepted.
    let wide = with(b"\xcf\0\0\0\0\0\0\0\x07");
    assert_eq!(Hello::decode(&wide).unwrap().max, Some(7));
    for bad in [
        &b"\xcf\0\0\0\x01\0\0\0\0"[..],
        b"\xff",
        b"\xa11",
        b"\xc0",
        b"\xc3",
        b"\xcb\x40\0\0\0\0\0\0\0",
    ] {
        let error = Hello::decode(&with(bad)).unwrap_err();
        assert!(
            error.is_malformed() && error.to_string().contains("max"),
            "{error}"
        );
    }
    let mut twice = with(b"\x01\xa3max\x01");
    twice[0] = 0x86;
    assert!(Hello::decode(&twice).unwrap_err().is_malformed());
}

#[test]
fn a_hello_ignores_unknown_keys() {
    let mut bytes = HELLO_BYTES.to_vec();
    bytes[0] = 0x86;
    bytes.extend_from_slice(b"\xa3new\x92\x01\x81\xa1x\xc0");
    bytes.extend_from_slice(b"\x05\xc3");
    assert_eq!(Hello::decode(&bytes).unwrap(), hello());
}

#[test]
fn an_invalid_hello_is_rejected() {
    let swap = |from: &[u8], to: &[u8]| {
        let at = HELLO_BYTES
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        let bytes = [&HELLO_BYTES[..at], to, &HELLO_BYTES[at + from.len()..]].concat();
        Hello::decode(&bytes).unwrap_err()
    };
    assert!(swap(b"\xa1v\x01", b"\xa1v\x02").is_version());
    assert!(swap(b"\xa1v\x01\xa4node\xc4", b"\xa1v\x09\xa4node\xd9").is_version());
    assert!(swap(b"\xa1v\x01", b"\xa1v\xa11").is_malformed());
    assert!(swap(b"\xa1v\x01", b"\xa1w\x01").is_malformed());
    assert!(swap(b"\xa4node", b"\xa4nope").is_malformed());
    assert!(swap(b"\xc4\x100", b"\xc4\x0f").is_malformed());
    assert!(swap(b"\xa3net\xa1n", b"\xa3net\xc0").is_malformed());
    assert!(swap(b"\xa5agent", b"\xa3net").is_malformed());
    assert!(swap(b"a/1", b"a/\xff").is_malformed());
    assert!(swap(b"a/1", b"a/1\xc0").is_malformed());
    assert!(swap(b"\x84", b"\xdf\xff\xff\xff\xff").is_malformed());
    for end in 0..HELLO_BYTES.len() {
        assert!(
            Hello::decode(&HELLO_BYTES[..end])
                .unwrap_err()
                .is_malformed()
        );
    }
    let deep = [&b"\x81\xa1x"[..], &[0x91; 900], b"\xc0"].concat();
    assert!(Hello::decode(&deep).unwrap_err().is_malformed());
    assert!(
        Hello::decode(&[0xc0; HELLO_MAX + 1])
            .unwrap_err()
            .is_too_large()
    );
}

#[test]
fn the_largest_hello_fits() {
    let largest = Hello {
        net: "n".repeat(NET_MAX),
        agent: "é".repeat(AGENT_MAX),
        listen: Some("l".repeat(LISTEN_MAX)),
        max: Some(u32::MAX),
        ..hello()
    };
    let bytes = largest.encode().unwrap();
    assert!(bytes.len() <= HELLO_MAX);
    assert_eq!(
        Hello::decode(&bytes).unwrap().agent,
        "é".repeat(AGENT_MAX / 2)
    );
    let over = Hello {
        net: "n".repeat(NET_MAX + 1),
        ..hello()
    };
    assert!(over.encode().unwrap_err().is_too_large());
    let over = Hello {
        listen: Some("l".repeat(LISTEN_MAX + 1)),
        ..hello()
    };
    assert!(over.encode().unwrap_err().is_too_large());
}

#[test]
fn node_ids_are_hex_and_ordered_by_bytes() {
    let id = NodeId::from_bytes([0xab, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255]);
    assert_eq!(id.to_string(), "ab000102030405060708090a0b0c0dff");
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in [
        "",
        "ab",
        "+b000102030405060708090a0b0c0dff",
        "ab000102030405060708090a0b0c0dfff",
    ] {
        assert!(bad.parse::<NodeId>().is_err());
    }
    assert!(id > NodeId::from_bytes([0xaa; 16]));
    assert_ne!(NodeId::random(), NodeId::random());
}

#[test]
fn reasons_are_truncated_at_character_boundaries() {
    let long = format!("a{}", "é".repeat(200));
    assert_eq!(encode_reason(&long).len(), 255);
    assert_eq!(
        decode_reason(encode_reason(&long)),
        format!("a{}", "é".repeat(127))
    );
    assert_eq!(decode_reason(b"a\xffb"), "a\u{fffd}b");
}
