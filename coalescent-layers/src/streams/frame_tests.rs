//! Frames as bytes, and back.

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::*;

fn ids() -> impl Strategy<Value = StreamId> {
    (any::<bool>(), 1..=LAST_NUMBER).prop_map(|(own, number)| StreamId {
        opener: if own {
            Opener::Sender
        } else {
            Opener::Receiver
        },
        number,
    })
}

fn frames() -> impl Strategy<Value = StreamFrame> {
    let opened = (1..=LAST_NUMBER).prop_map(|number| StreamId {
        opener: Opener::Sender,
        number,
    });
    prop_oneof![
        (opened, any::<u32>(), "[a-zü]{1,30}").prop_map(|(stream, credit, name)| {
            StreamFrame::Open {
                stream,
                credit,
                name,
            }
        }),
        (ids(), prop::collection::vec(any::<u8>(), 1..100)).prop_map(|(stream, bytes)| {
            let bytes = Bytes::from(bytes);
            StreamFrame::Data { stream, bytes }
        }),
        ids().prop_map(|stream| StreamFrame::End { stream }),
        (ids(), "[a-z ü]{0,100}")
            .prop_map(|(stream, reason)| StreamFrame::Reset { stream, reason }),
        (ids(), 1..=u32::MAX).prop_map(|(stream, bytes)| StreamFrame::Credit { stream, bytes }),
        (1..=u32::MAX).prop_map(|streams| StreamFrame::Places { streams }),
    ]
}

proptest! {
    #[test]
    fn frames_decode_to_what_they_were(frame in frames()) {
        prop_assert_eq!(StreamFrame::decode(frame.encode()), Ok(frame));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        kind in 0_u8..8,
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = Bytes::from([&[kind][..], &rest].concat());
        if let Ok(frame) = StreamFrame::decode(bytes.clone()) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }
}

#[test]
fn the_bytes_are_as_documented() {
    let stream = |opener, number| StreamId { opener, number };
    let own = stream(Opener::Sender, 1);
    let theirs = stream(Opener::Receiver, 258);
    for (frame, bytes) in [
        (
            StreamFrame::Open {
                stream: own,
                credit: 512,
                name: "file".to_owned(),
            },
            &b"\x00\0\0\0\x01\0\0\x02\0file"[..],
        ),
        (
            StreamFrame::Data {
                stream: theirs,
                bytes: Bytes::from_static(b"hi"),
            },
            b"\x01\x80\0\x01\x02hi",
        ),
        (StreamFrame::End { stream: own }, b"\x02\0\0\0\x01"),
        (
            StreamFrame::Reset {
                stream: own,
                reason: "no".to_owned(),
            },
            b"\x03\0\0\0\x01no",
        ),
        (
            StreamFrame::Credit {
                stream: theirs,
                bytes: 1,
            },
            b"\x04\x80\0\x01\x02\0\0\0\x01",
        ),
        (
            StreamFrame::Places { streams: 3 },
            b"\x05\0\0\0\0\0\0\0\x03",
        ),
    ] {
        assert_eq!(frame.encode(), bytes);
        assert_eq!(StreamFrame::decode(Bytes::from_static(bytes)), Ok(frame));
    }
}

#[test]
fn what_is_not_of_the_form_is_refused() {
    for bytes in [
        &b""[..],
        b"\x01\0\0\0",
        b"\x01\0\0\0\0x",
        b"\x01\0\0\0\x01",
        b"\x02\0\0\0\x01x",
        b"\x00\0\0\0\x01\0\0\0",
        b"\x00\0\0\0\x01\0\0\0\0",
        b"\x00\0\0\0\x01\0\0\0\0\xff",
        b"\x00\x80\0\0\x01\0\0\0\0x",
        b"\x04\0\0\0\x01\0\0\0\0",
        b"\x04\0\0\0\x01\0\0\0\x01\0",
        b"\x05\0\0\0\x01\0\0\0\x01",
        b"\x06\0\0\0\x01",
    ] {
        assert!(
            StreamFrame::decode(Bytes::from_static(bytes)).is_err(),
            "{bytes:?}"
        );
    }
    let long = [b"\x00\0\0\0\x01\0\0\0\0", &[b'x'; MAX_NAME + 1][..]].concat();
    assert!(StreamFrame::decode(long.into()).is_err());
}

#[test]
fn a_long_reason_is_cut_between_letters() {
    assert_eq!(cut("aü", 2), "a");
    assert_eq!(cut("aü", 3), "aü");
    assert_eq!(cut("", 3), "");
}
