//! Tests of the wires; rules that all wires share are tested on all of them.

mod custom;
mod lines;
mod native;
mod properties;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

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
    }
}

#[test]
fn frames_that_a_wire_cannot_carry_are_rejected() {
    let reply = Kind::Reply {
        id: 1,
        status: Status::Ok,
    };
    for wire in [Wire::lines(), Wire::raw()] {
        let mut codec = wire.codec(MAX);
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
fn an_error_with_a_cause_displays_its_own_level() {
    let cause = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let errors = [WireError::from(cause()), WireError::custom(cause().into())];
    for error in errors {
        crate::error::check_levels(&error);
    }
}
