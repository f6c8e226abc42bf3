//! Properties that hold for generated frames and for garbage.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

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
        (any::<u8>(), payload()).prop_map(|(index, p)| (Kind::Channel { index }, p)),
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
                if let Some(kind) = chunk.get_mut(4) { *kind &= 0x17; }
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
