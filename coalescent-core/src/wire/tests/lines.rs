//! Tests of the `lines` wire.

use super::*;

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
fn a_tls_handshake_is_no_line() {
    let hello = b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03 and\nmore\n";
    let alert = b"\x15\x03\x03\x00\x02\x02\x0a";
    for bytes in [&hello[..], &alert[..]] {
        for piece in [1, 2, 5, bytes.len()] {
            let (frames, _, error) = read_blocks(Wire::lines().codec(MAX), bytes, &[piece]);
            let error = error.expect("it is recognized");
            assert!(frames.is_empty() && error.is_malformed(), "{error}");
            assert!(error.to_string().contains("speaks TLS"), "{error}");
        }
        // Only at the start.
        let later = [b"first\n", bytes].concat();
        let (frames, _, error) = read_blocks(Wire::lines().codec(MAX), &later, &[usize::MAX]);
        assert!(frames.len() > 1 && error.is_none(), "{error:?}");
        // Any bytes can be a payload elsewhere.
        let (frames, _, error) = read_blocks(Wire::raw().codec(MAX), bytes, &[usize::MAX]);
        assert!(!frames.is_empty() && error.is_none(), "{error:?}");
    }
    // What is as short as the start of a handshake is a line all the same.
    for bytes in ["\x16\n", "\x16\x03\x01\n", "\x15\x03\x03\0\n"] {
        let (frames, _, error) = read_blocks(Wire::lines().codec(MAX), bytes.as_bytes(), &[1]);
        assert!(frames.len() == 1 && error.is_none(), "{bytes:?}: {error:?}");
    }
}
