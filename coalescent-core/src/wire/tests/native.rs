//! Tests of the `native` wire.

use super::*;

#[test]
fn a_connection_begins_with_a_zero_byte() {
    // Servers that share a port go by it.
    for len in [0, HELLO_MAX] {
        let framing = NativeCodec::new(MAX_FRAME_CEILING).framing(Kind::Hello, 0, len);
        assert_eq!(framing.unwrap().prefix()[0], 0);
    }
}

#[test]
fn each_kind_has_its_documented_bytes() {
    let cases: [(Kind, u8, &[u8], &[u8]); 9] = [
        (Kind::Data, 0, b"hi", b"\0\0\0\x04\x00\0hi"),
        (
            Kind::Broadcast {
                nonce: 0x0102_0304_0506_0708,
            },
            32,
            b"hi",
            b"\0\0\0\x0c\x01\x20\x01\x02\x03\x04\x05\x06\x07\x08hi",
        ),
        (
            Kind::Request { id: 7 },
            0,
            b"q",
            b"\0\0\0\x07\x02\0\0\0\0\x07q",
        ),
        (
            Kind::Reply {
                id: 7,
                status: Status::Failed,
            },
            0,
            b"no",
            b"\0\0\0\x09\x03\0\0\0\0\x07\x02no",
        ),
        (
            Kind::Cancel { id: 7 },
            0,
            b"",
            b"\0\0\0\x06\x04\0\0\0\0\x07",
        ),
        (Kind::Hello, 0, b"\x80", b"\0\0\0\x03\x10\0\x80"),
        (Kind::Ping, 0, b"12345678", b"\0\0\0\x0a\x11\x0012345678"),
        (Kind::Pong, 0, b"12345678", b"\0\0\0\x0a\x12\x0012345678"),
        (Kind::Bye, 0, b"bye", b"\0\0\0\x05\x13\0bye"),
    ];
    for (kind, ttl, payload, bytes) in cases {
        let mut dst = BytesMut::new();
        Wire::native()
            .codec(MAX)
            .encode(kind, ttl, payload, &mut dst)
            .unwrap();
        assert_eq!(&dst[..], bytes, "{kind:?}");
    }
}

/// Returns the first 6 bytes of a frame with `fields_len` bytes of fields.
fn native_start(kind: u8, fields_len: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(fields_len + 2)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    bytes.extend_from_slice(&[kind, 0]);
    bytes
}

#[test]
fn the_limit_is_accepted_and_one_byte_more_rejected_by_its_length_field() {
    for (kind, key) in [(0, 0), (1, 8), (2, 4), (3, 5), (4, 4), (0x77, 0)] {
        let mut codec = NativeCodec::new(10);
        codec.established();
        let mut buf = BytesMut::from(&native_start(kind, key + 10)[..]);
        assert!(codec.decode(&mut buf).unwrap().is_none());
        buf.extend_from_slice(&vec![0; key + 10]);
        assert_eq!(codec.decode(&mut buf).unwrap().unwrap().payload.len(), 10);

        // Five bytes suffice to detect the error.
        let mut buf = BytesMut::from(&native_start(kind, key + 11)[..5]);
        assert!(
            codec.decode(&mut buf).unwrap_err().is_too_large(),
            "kind {kind}"
        );
    }
    let mut buf = BytesMut::from(&[0xff; 4][..]);
    assert!(native().decode(&mut buf).unwrap_err().is_too_large());
}

#[test]
fn established_raises_the_handshake_limit() {
    let mut codec = Wire::native().codec(MAX);
    let mut block = Block::new();
    let mut buf = BytesMut::from(&native_start(0, HANDSHAKE_MAX_FRAME + 1)[..]);
    assert!(
        codec
            .next_block(&mut buf, &mut block)
            .unwrap_err()
            .is_too_large()
    );
    codec.established();
    assert!(!codec.next_block(&mut buf, &mut block).unwrap());
}

#[test]
fn control_frames_have_their_own_size_limits() {
    let judge = |kind: u8, len: usize| {
        let mut bytes = BytesMut::from(&native_start(kind, len)[..]);
        bytes.extend_from_slice(&vec![b'x'; len]);
        // A frame limit of 1 excludes none of them.
        NativeCodec::new(1).decode(&mut bytes)
    };
    assert!(judge(0x10, HELLO_MAX).is_ok());
    assert!(judge(0x10, HELLO_MAX + 1).unwrap_err().is_too_large());
    for kind in [0x11, 0x12] {
        assert!(judge(kind, 8).is_ok());
        assert!(judge(kind, 7).unwrap_err().is_malformed());
        assert!(judge(kind, 9).unwrap_err().is_malformed());
    }
    assert!(judge(0x13, BYE_MAX).is_ok());
    assert!(judge(0x13, BYE_MAX + 1).unwrap_err().is_malformed());
    for (kind, fields) in [(1, 8), (2, 4), (3, 5), (4, 4)] {
        assert!(judge(kind, fields).is_ok());
        assert!(judge(kind, fields - 1).unwrap_err().is_malformed());
    }
    for length in 0..2 {
        let mut bytes = BytesMut::from(&[0, 0, 0, length][..]);
        assert!(native().decode(&mut bytes).unwrap_err().is_malformed());
    }
}

#[test]
fn missing_never_exceeds_the_limit() {
    let mut codec = Wire::native().codec(MAX);
    codec.established();
    assert_eq!(codec.missing(b"\0\0\0"), 0);
    assert_eq!(codec.missing(b"\0\0\0\x0a\0\0abc"), 5);
    assert_eq!(codec.missing(b"\0\0\0\x03\0\0a\0\0\0"), 0);
    assert!(codec.missing(&[0xff; 4]) <= MAX + MAX_PREFIX);
    assert_eq!(Wire::lines().codec(MAX).missing(b"abc"), 0);
}

#[test]
fn a_stream_that_ends_within_a_frame_is_truncated() {
    let (frames, _, error) = read_blocks(
        Wire::native().codec(MAX),
        b"\0\0\0\x03\0\0a\0\0",
        &[usize::MAX],
    );
    assert_eq!(frames.len(), 1);
    assert!(error.unwrap().is_truncated());
}
