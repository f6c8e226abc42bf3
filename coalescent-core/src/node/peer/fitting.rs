//! What a peer gets that takes no payloads as large as this node sends.
//!
//! What is for many peers is put into frames once, for all of a wire. So what one of them does not
//! take is left out for it alone, and costs the others nothing.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use crate::outbox::{Chunk, Count};
use crate::wire::split_frame;

/// Leaves out of `chunks`, on the native wire, the frames whose payload is over `limit` bytes, and
/// says how many those are.
pub(super) fn fitting(chunks: &[Chunk], limit: usize) -> (Cow<'_, [Chunk]>, u64) {
    if chunks.iter().all(|chunk| fits(chunk, limit)) {
        return (Cow::Borrowed(chunks), 0);
    }
    let mut left_out = 0;
    let some = chunks.iter().filter_map(|chunk| {
        let (some, others) = cut(chunk, limit);
        left_out += others;
        some
    });
    (Cow::Owned(some.collect()), left_out)
}

/// Whether all payloads of a chunk are within the limit. Most runs of frames are as a whole.
fn fits(chunk: &Chunk, limit: usize) -> bool {
    chunk.body.len() <= limit
        || frames(chunk).is_some_and(|mut frames| frames.all(|(_, payload)| payload <= limit))
}

/// The frames of a run, each with the size of its payload; `None` where the body is the payload of
/// one frame.
fn frames(chunk: &Chunk) -> Option<impl Iterator<Item = (&[u8], usize)>> {
    let mut rest: &[u8] = &chunk.body;
    let frames = std::iter::from_fn(move || {
        let (frame, payload, behind) = split_frame(rest)?;
        rest = behind;
        Some((frame, payload))
    });
    chunk.framing.prefix().is_empty().then_some(frames)
}

/// What is left of a chunk without the frames that are too large, and how many these are.
fn cut(chunk: &Chunk, limit: usize) -> (Option<Chunk>, u64) {
    let Some(frames) = frames(chunk) else {
        return match chunk.body.len() <= limit {
            true => (Some(chunk.clone()), 0),
            false => (None, chunk.count.total()),
        };
    };
    // Copied, so that a small rest does not keep a large buffer alive.
    let mut rest = BytesMut::new();
    let mut left: u32 = 0;
    for (frame, payload) in frames {
        if payload <= limit {
            rest.extend_from_slice(frame);
            left += 1;
        }
    }
    let total = chunk.count.total();
    let count = match chunk.count.own {
        0 => Count::relayed(left),
        _ => Count {
            own: left,
            relayed: 0,
        },
    };
    let rest: Bytes = rest.freeze();
    let rest = (left > 0).then(|| Chunk::verbatim(rest, count));
    (rest, total.saturating_sub(left.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, Wire};

    fn framed(len: usize) -> Chunk {
        let body = Bytes::from(vec![b'x'; len]);
        let kind = Kind::Broadcast { nonce: len as u64 };
        let framing = Wire::native().framing(1 << 20, kind, 1, &body);
        Chunk {
            framing: framing.unwrap().unwrap(),
            body,
            count: Count::OWN,
        }
    }

    fn run(lens: &[usize]) -> Chunk {
        let mut bytes = BytesMut::new();
        for len in lens {
            let frame = framed(*len);
            bytes.extend_from_slice(frame.framing.prefix());
            bytes.extend_from_slice(&frame.body);
        }
        let count = Count::relayed(u32::try_from(lens.len()).unwrap());
        Chunk::verbatim(bytes.freeze(), count)
    }

    #[test]
    fn what_fits_is_shared_and_what_does_not_is_left_out_alone() {
        let all = [framed(10), run(&[0, 10, 9]), framed(0)];
        let (same, left_out) = fitting(&all, 10);
        assert!(matches!(same, Cow::Borrowed(_)));
        assert_eq!(left_out, 0);

        let all = [framed(11), run(&[10, 11, 3, 12]), run(&[11, 99]), framed(2)];
        let (some, left_out) = fitting(&all, 10);
        assert_eq!(left_out, 1 + 2 + 2);
        assert_eq!(some.len(), 2);
        assert_eq!(some[0].body, run(&[10, 3]).body);
        assert_eq!(some[0].count, Count::relayed(2));
        assert_eq!((&some[1].body[..], some[1].count), (&b"xx"[..], Count::OWN));
    }

    #[test]
    fn who_takes_nothing_gets_empty_frames_alone() {
        let all = [framed(1), run(&[1, 0, 1]), framed(0)];
        let (some, left_out) = fitting(&all, 0);
        assert_eq!(left_out, 3);
        assert_eq!(some[0].body, run(&[0]).body);
        assert_eq!(some.len(), 2);
        assert_eq!(fitting(&[run(&[1, 2, 3])], 0).1, 3);
    }
}
