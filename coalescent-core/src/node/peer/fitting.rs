//! Frames for a peer that does not take payloads as large as this node sends.
//!
//! Frames for many peers are encoded once for all peers of a wire. The ones that are too large for
//! one of these peers are left out for it alone, at no cost for the others.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use crate::outbox::{Chunk, Count};
use crate::wire::split_frame;

/// Returns `chunks`, which are on the native wire, without the frames whose payload is larger than
/// `limit` bytes, and the number of these frames.
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

/// Returns whether all payloads of a chunk are within the limit. Most runs are shorter than the
/// limit as a whole.
fn fits(chunk: &Chunk, limit: usize) -> bool {
    chunk.body.len() <= limit
        || frames(chunk).is_some_and(|mut frames| frames.all(|(_, payload)| payload <= limit))
}

/// Returns the frames of a run, each with the size of its payload; `None` if the body is the
/// payload of one frame.
fn frames(chunk: &Chunk) -> Option<impl Iterator<Item = (&[u8], usize)>> {
    let mut rest: &[u8] = &chunk.body;
    let frames = std::iter::from_fn(move || {
        let (frame, payload, behind) = split_frame(rest)?;
        rest = behind;
        Some((frame, payload))
    });
    chunk.framing.prefix().is_empty().then_some(frames)
}

/// Returns a chunk without the frames that are too large, if others are left, and the number of the
/// frames that were left out.
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
    fn fitting_chunks_are_shared_and_only_large_frames_left_out() {
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
    fn a_limit_of_zero_leaves_only_empty_frames() {
        let all = [framed(1), run(&[1, 0, 1]), framed(0)];
        let (some, left_out) = fitting(&all, 0);
        assert_eq!(left_out, 3);
        assert_eq!(some[0].body, run(&[0]).body);
        assert_eq!(some.len(), 2);
        assert_eq!(fitting(&[run(&[1, 2, 3])], 0).1, 3);
    }
}
