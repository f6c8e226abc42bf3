//! Tests of custom wires.

use tokio_util::codec::LengthDelimitedCodec;

use super::*;

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
