//! Tests of the wires; rules that all wires share are tested on all of them.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use super::*;

const MAX: usize = 2048;

/// Reads `bytes` in pieces with `next_block`, then `finish`, as a connection does.
fn read_blocks(
    mut codec: WireCodec,
    bytes: &[u8],
    pieces: &[usize],
) -> (Vec<(Head, Bytes)>, Bytes, Option<WireError>) {
    let (mut frames, mut whole, mut block) = (Vec::new(), BytesMut::new(), Block::new());
    let mut take = |block: &Block| {
        let mut end = 0;
        for (offset, head) in &block.heads {
            assert_eq!(*offset, end, "frames of a block leave no gap");
            end += head.wire_len();
            frames.push((*head, block.payload(*offset, head)));
        }
        assert_eq!(end, block.bytes.len(), "frames of a block fill it");
        assert!(block.heads.len() <= MAX_BLOCK_FRAMES);
        whole.extend_from_slice(&block.bytes);
    };
    let (mut buf, mut rest) = (BytesMut::new(), bytes);
    let mut pieces = pieces.iter().copied().cycle();
    codec.established();
    let error = loop {
        let (piece, tail) = rest.split_at(pieces.next().unwrap_or(usize::MAX).min(rest.len()));
        buf.extend_from_slice(piece);
        rest = tail;
        let done = rest.is_empty();
        let result = loop {
            match codec.next_block(&mut buf, &mut block) {
                Ok(true) => take(&block),
                other => break other,
            }
        };
        match result {
            Err(error) => break Some(error),
            Ok(_) if done => {
                break loop {
                    match codec.finish(&mut buf, &mut block) {
                        Ok(true) => take(&block),
                        Ok(false) => break None,
                        Err(error) => break Some(error),
                    }
                };
            }
            Ok(_) => {}
        }
    };
    (frames, whole.freeze(), error)
}

fn decode_packets<D: Decoder<Item = Packet, Error = WireError>>(
    mut codec: D,
    bytes: &[u8],
) -> (Vec<Packet>, Option<WireError>) {
    let (mut buf, mut out) = (BytesMut::from(bytes), Vec::new());
    loop {
        match codec.decode_eof(&mut buf) {
            Ok(Some(packet)) => out.push(packet),
            Ok(None) => return (out, None),
            Err(error) => return (out, Some(error)),
        }
    }
}

fn native() -> NativeCodec {
    let mut codec = NativeCodec::new(MAX);
    codec.established();
    codec
}

fn kinds() -> impl Strategy<Value = (Kind, u8, Vec<u8>)> {
    let status = prop_oneof![
        Just(Status::Ok),
        Just(Status::NoAnswer),
        Just(Status::Failed)
    ];
    let payload = || vec(any::<u8>(), 0..200);
    prop_oneof![
        payload().prop_map(|p| (Kind::Data, p)),
        (any::<u64>(), payload()).prop_map(|(nonce, p)| (Kind::Broadcast { nonce }, p)),
        (any::<u32>(), payload()).prop_map(|(id, p)| (Kind::Request { id }, p)),
        (any::<u32>(), status, payload())
            .prop_map(|(id, status, p)| (Kind::Reply { id, status }, p)),
        any::<u32>().prop_map(|id| (Kind::Cancel { id }, Vec::new())),
        payload().prop_map(|p| (Kind::Hello, p)),
        any::<[u8; 8]>().prop_map(|p| (Kind::Ping, p.to_vec())),
        any::<[u8; 8]>().prop_map(|p| (Kind::Pong, p.to_vec())),
        payload().prop_map(|p| (Kind::Bye, p)),
        (0x20..=0xff_u8, payload()).prop_map(|(kind, p)| (Kind::Unknown(kind), p)),
    ]
    .prop_flat_map(|(kind, payload)| (Just(kind), any::<u8>(), Just(payload)))
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..100).prop_map(|mut line| {
        line.retain(|byte| *byte != b'\n');
        if line.last().is_none_or(|last| *last == b'\r') {
            line.push(b'x');
        }
        line
    })
}

proptest! {
    #[test]
    fn native_round_trips_in_all_chunkings(
        frames in vec(kinds(), 0..40),
        pieces in vec(1..300_usize, 1..8),
    ) {
        let (mut wire, mut codec) = (BytesMut::new(), native());
        let mut expected = Vec::new();
        for (kind, ttl, payload) in frames {
            let packet = Packet { kind, ttl, payload: payload.into() };
            codec.encode(packet.clone(), &mut wire).unwrap();
            expected.push(packet);
        }
        for pieces in [&pieces[..], &[1], &[usize::MAX]] {
            let (frames, whole, error) = read_blocks(Wire::native().codec(MAX), &wire, pieces);
            prop_assert!(error.is_none());
            let got: Vec<_> = frames
                .iter()
                .map(|(head, payload)| Packet { kind: head.kind, ttl: head.ttl, payload: payload.clone() })
                .collect();
            prop_assert_eq!(&got, &expected);
            // Forwarding changes only the ttl bytes of broadcasts.
            let mut lowered = BytesMut::new();
            for mut packet in expected.clone() {
                if matches!(packet.kind, Kind::Broadcast { .. }) {
                    packet.ttl = packet.ttl.saturating_sub(1);
                }
                codec.encode(packet, &mut lowered).unwrap();
            }
            prop_assert_eq!(&whole[..], &lowered[..]);
        }
        let (got, error) = decode_packets(native(), &wire);
        prop_assert!(error.is_none());
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn garbage_decodes_the_same_in_any_chunking(
        mut bytes in vec(any::<u8>(), 0..600),
        short in any::<bool>(),
        pieces in vec(1..50_usize, 1..8),
    ) {
        if short {
            // Use small lengths and known kinds, so that garbage passes the first check.
            bytes.chunks_mut(16).for_each(|chunk| {
                for (byte, value) in chunk.iter_mut().zip([0, 0, 0, 12]) { *byte = value; }
                if let Some(kind) = chunk.get_mut(4) { *kind &= 0x13; }
            });
        }
        for wire in [Wire::native(), Wire::lines(), Wire::raw()] {
            let (at_once, whole, error) = read_blocks(wire.codec(64), &bytes, &[usize::MAX]);
            for pieces in [&pieces[..], &[1]] {
                let (frames, whole_too, error_too) = read_blocks(wire.codec(64), &bytes, pieces);
                prop_assert_eq!(error.is_some(), error_too.is_some());
                if wire != Wire::raw() {
                    prop_assert_eq!(&frames, &at_once);
                }
                prop_assert_eq!(&whole_too, &whole);
            }
            let (packets, failed) = match wire.name() {
                "native" => {
                    let mut codec = NativeCodec::new(64);
                    codec.established();
                    decode_packets(codec, &bytes)
                }
                "lines" => decode_packets(LinesCodec::new(64), &bytes),
                _ => decode_packets(RawCodec::new(64), &bytes),
            };
            prop_assert_eq!(failed.is_some(), error.is_some());
            let frames: Vec<_> = at_once
                .into_iter()
                .filter(|(head, _)| head.kind != Kind::Nothing)
                .map(|(head, payload)| Packet { kind: head.kind, ttl: head.ttl, payload })
                .collect();
            prop_assert_eq!(frames, packets);
        }
    }

    #[test]
    fn lines_round_trip_in_all_chunkings(
        lines in vec((line(), any::<bool>()), 0..40),
        pieces in vec(1..100_usize, 1..8),
    ) {
        let mut bytes = Vec::new();
        for (line, carriage_return) in &lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(if *carriage_return { b"\r\n" } else { b"\n" });
        }
        for pieces in [&pieces[..], &[1], &[usize::MAX]] {
            let (frames, whole, error) = read_blocks(Wire::lines().codec(MAX), &bytes, pieces);
            prop_assert!(error.is_none());
            prop_assert_eq!(&whole[..], &bytes[..]);
            prop_assert_eq!(frames.len(), lines.len());
            for ((head, payload), (line, carriage_return)) in frames.iter().zip(&lines) {
                prop_assert_eq!(head.kind, Kind::Plain);
                prop_assert_eq!(&payload[..], &line[..]);
                prop_assert_eq!(head.verbatim, !carriage_return);
            }
        }
    }

    #[test]
    fn framing_matches_encode(frame in kinds()) {
        let (kind, ttl, payload) = frame;
        for wire in [Wire::native(), Wire::lines(), Wire::raw()] {
            let mut codec = wire.codec(MAX);
            let mut dst = BytesMut::new();
            let encoded = codec.encode(kind, ttl, &payload, &mut dst);
            match codec.framing(kind, ttl, &payload) {
                Ok(Some(framing)) => {
                    let around = [framing.prefix(), &payload, framing.suffix()].concat();
                    prop_assert_eq!(&dst[..], &around[..]);
                }
                Ok(None) => prop_assert!(encoded.is_ok() && dst.is_empty()),
                Err(_) => prop_assert!(encoded.is_err() && dst.is_empty()),
            }
        }
    }

    #[test]
    fn hello_of_garbage_does_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Hello::decode(&bytes);
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
fn valid_frames_are_returned_before_the_error() {
    let bad_native = b"\0\0\0\x03\0\0a\0\0\0\0";
    let bad_line = b"ok\nthis line is too long\n";
    for (wire, bytes) in [(Wire::native(), &bad_native[..]), (Wire::lines(), bad_line)] {
        let mut codec = wire.codec(8);
        let (mut buf, mut block) = (BytesMut::from(bytes), Block::new());
        assert!(codec.next_block(&mut buf, &mut block).unwrap());
        assert_eq!(block.heads.len(), 1);
        for _ in 0..2 {
            assert!(codec.next_block(&mut buf, &mut block).is_err());
        }
    }
}

#[test]
fn a_block_is_bounded_and_the_next_continues() {
    let frames = MAX_BLOCK_FRAMES + 3;
    for wire in [Wire::native(), Wire::lines()] {
        let (mut codec, mut buf) = (wire.codec(8), BytesMut::new());
        for _ in 0..frames {
            codec.encode(Kind::Data, 0, b"x", &mut buf).unwrap();
        }
        let mut block = Block::new();
        assert!(codec.next_block(&mut buf, &mut block).unwrap());
        assert_eq!(block.heads.len(), MAX_BLOCK_FRAMES);
        assert!(codec.next_block(&mut buf, &mut block).unwrap());
        assert_eq!(block.heads.len(), 3);
        assert!(!codec.next_block(&mut buf, &mut block).unwrap());
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

#[test]
fn the_line_limit_counts_only_the_payload() {
    let read = |bytes: &[u8]| read_blocks(Wire::lines().codec(4), bytes, &[1]);
    for good in [&b"1234\n"[..], b"1234\r\n", b"1234", b"123\r"] {
        let (frames, _, error) = read(good);
        assert!(error.is_none() && frames.len() == 1, "{good:?}");
    }
    for bad in [&b"12345"[..], b"12345\r\n", b"1234\r", b"1234\r\r\n"] {
        assert!(read(bad).2.unwrap().is_too_large(), "{bad:?}");
    }
    // Rejected as soon as it cannot fit, before its end arrives.
    let (mut buf, mut block) = (BytesMut::from("12345"), Block::new());
    assert!(
        Wire::lines()
            .codec(4)
            .next_block(&mut buf, &mut block)
            .unwrap_err()
            .is_too_large()
    );
}

#[test]
fn empty_lines_are_no_frames_and_the_last_line_needs_no_newline() {
    let (frames, whole, error) = read_blocks(Wire::lines().codec(9), b"\n\r\na\n\nb\r", &[1]);
    assert!(error.is_none());
    assert_eq!(whole, "\n\r\na\n\nb\r");
    let got: Vec<_> = frames
        .iter()
        .map(|(head, payload)| (head.kind, &payload[..], head.verbatim))
        .collect();
    let expected: [(Kind, &[u8], bool); 5] = [
        (Kind::Nothing, b"", true),
        (Kind::Nothing, b"", false),
        (Kind::Plain, b"a", true),
        (Kind::Nothing, b"", true),
        // Forwarded unchanged it would merge with the next line.
        (Kind::Plain, b"b\r", false),
    ];
    assert_eq!(got, expected);
}

#[test]
fn a_long_line_in_small_pieces_is_scanned_once() {
    let mut codec = LinesCodec::new(MAX_FRAME_CEILING);
    let (mut buf, mut block) = (BytesMut::from(&vec![b'x'; 1000][..]), Block::new());
    assert!(!codec.next_block(&mut buf, &mut block).unwrap());
    // A newline written into the part that was already scanned is not found, which shows that the
    // codec did not scan it again.
    buf[0] = b'\n';
    assert!(!codec.next_block(&mut buf, &mut block).unwrap());
    buf.extend_from_slice(b"\n");
    assert!(codec.next_block(&mut buf, &mut block).unwrap());
    assert_eq!(block.heads[0].1.wire_len(), 1001);
}

#[test]
fn wires_without_kinds_write_only_payloads() {
    for (wire, data) in [(Wire::lines(), &b"hi\n"[..]), (Wire::raw(), b"hi")] {
        let mut codec = wire.codec(MAX);
        for kind in [Kind::Data, Kind::Broadcast { nonce: 1 }, Kind::Plain] {
            let mut dst = BytesMut::new();
            codec.encode(kind, 9, b"hi", &mut dst).unwrap();
            assert_eq!(&dst[..], data);
        }
        for kind in [
            Kind::Hello,
            Kind::Ping,
            Kind::Pong,
            Kind::Bye,
            Kind::Nothing,
        ] {
            let mut dst = BytesMut::new();
            codec.encode(kind, 0, b"12345678", &mut dst).unwrap();
            assert!(dst.is_empty());
        }
        let reply = Kind::Reply {
            id: 1,
            status: Status::Ok,
        };
        for kind in [Kind::Request { id: 1 }, reply, Kind::Cancel { id: 1 }] {
            let mut dst = BytesMut::new();
            assert!(
                codec
                    .encode(kind, 0, b"", &mut dst)
                    .unwrap_err()
                    .is_unsupported()
            );
        }
    }
    let mut dst = BytesMut::new();
    let mut lines = Wire::lines().codec(4);
    assert!(
        lines
            .encode(Kind::Data, 0, b"a\nb", &mut dst)
            .unwrap_err()
            .is_newline()
    );
    assert!(
        lines
            .encode(Kind::Data, 0, b"12345", &mut dst)
            .unwrap_err()
            .is_too_large()
    );
    let mut native = Wire::native().codec(4);
    assert!(
        native
            .encode(Kind::Data, 0, b"12345", &mut dst)
            .unwrap_err()
            .is_too_large()
    );
    assert!(
        native
            .encode(Kind::Plain, 0, b"", &mut dst)
            .unwrap_err()
            .is_unsupported()
    );
    assert!(
        native
            .encode(Kind::Unknown(1), 0, b"", &mut dst)
            .unwrap_err()
            .is_unsupported()
    );
    assert!(dst.is_empty());
}

#[test]
fn raw_frames_are_split_at_the_limit() {
    let (frames, whole, _) = read_blocks(Wire::raw().codec(4), b"123456789", &[usize::MAX]);
    let sizes: Vec<_> = frames.iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!((sizes, &whole[..]), (vec![4, 4, 1], &b"123456789"[..]));
}

#[test]
fn a_custom_codec_works_as_a_wire() {
    let wire = Wire::custom("ld", LengthDelimitedCodec::new);
    assert_eq!(wire, wire.clone());
    assert_ne!(wire, Wire::custom("ld", LengthDelimitedCodec::new));
    let (mut codec, mut buf, mut block) = (wire.codec(4), BytesMut::new(), Block::new());
    codec.encode(Kind::Data, 0, b"one", &mut buf).unwrap();
    codec.encode(Kind::Ping, 0, b"12345678", &mut buf).unwrap();
    codec.encode(Kind::Plain, 0, b"four", &mut buf).unwrap();
    assert!(
        codec
            .encode(Kind::Data, 0, b"12345", &mut buf)
            .unwrap_err()
            .is_too_large()
    );
    for payload in ["one", "four"] {
        assert!(codec.next_block(&mut buf, &mut block).unwrap());
        let (offset, head) = block.heads[0];
        assert_eq!(block.payload(offset, &head), payload);
        assert!(head.kind == Kind::Plain && !head.verbatim);
    }
    assert!(!codec.next_block(&mut buf, &mut block).unwrap());
    buf.extend_from_slice(b"\0\0\0\x0512345");
    assert!(
        codec
            .next_block(&mut buf, &mut block)
            .unwrap_err()
            .is_too_large()
    );
    buf.extend_from_slice(&(1_u32 << 22).to_be_bytes());
    buf.extend_from_slice(&vec![0; 5 + CUSTOM_FRAMING_ALLOWANCE]);
    assert!(
        codec
            .next_block(&mut buf, &mut block)
            .unwrap_err()
            .is_too_large()
    );
}
