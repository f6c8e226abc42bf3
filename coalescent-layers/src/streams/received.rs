//! The bytes of a stream that were received and are not read.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Frames with less than this many bytes are copied together, since each piece that is kept costs
/// some memory beside its bytes.
const SMALL: usize = 4 * 1024;

/// How many bytes are copied together at most.
const PIECE: usize = 16 * 1024;

/// A queue of bytes. What it costs is at most about twice its length, however the bytes came.
#[derive(Debug, Default)]
pub(super) struct Received {
    pieces: VecDeque<Bytes>,
    /// The small pieces behind these.
    last: BytesMut,
    len: usize,
}

impl Received {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.len = self.len.saturating_add(bytes.len());
        if bytes.len() < SMALL {
            self.last.extend_from_slice(&bytes);
            if self.last.len() >= PIECE {
                self.end_piece();
            }
            return;
        }
        self.end_piece();
        self.pieces.push_back(bytes);
    }

    fn end_piece(&mut self) {
        if !self.last.is_empty() {
            self.pieces
                .push_back(std::mem::take(&mut self.last).freeze());
        }
    }

    /// Returns the next bytes; none if there are none at all.
    pub(super) fn front(&self) -> &[u8] {
        self.pieces.front().map_or(&self.last, |piece| piece)
    }

    /// Removes bytes of the [`front`](Self::front).
    pub(super) fn advance(&mut self, count: usize) {
        self.len = self.len.saturating_sub(count);
        let Some(piece) = self.pieces.front_mut() else {
            self.last.advance(count.min(self.last.len()));
            if self.last.is_empty() {
                self.last = BytesMut::new();
            }
            return;
        };
        piece.advance(count.min(piece.len()));
        if piece.is_empty() {
            self.pieces.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops all bytes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            steps in prop::collection::vec((0_usize..10_000, 0_usize..10_000), 1..60),
        ) {
            let mut received = Received::default();
            let (mut put, mut taken) = (0_usize, 0_usize);
            let byte = |at: usize| (at % 251) as u8;
            for (push, pull) in steps {
                received.push((put..put + push).map(byte).collect::<Vec<_>>().into());
                put += push;
                let front = received.front();
                let count = pull.min(front.len());
                prop_assert!(front[..count].iter().enumerate().all(|(at, had)| *had == byte(taken + at)));
                received.advance(count);
                taken += count;
                prop_assert_eq!(received.len, put - taken);
                prop_assert_eq!(received.front().is_empty(), received.is_empty());
            }
        }
    }

    #[test]
    fn bytes_that_come_one_by_one_are_kept_together() {
        let mut received = Received::default();
        for _ in 0..100_000 {
            received.push(Bytes::from_static(b"x"));
        }
        assert!(received.pieces.len() <= 100_000 / PIECE);
        received.clear();
        assert!(received.is_empty() && received.front().is_empty());
    }
}
