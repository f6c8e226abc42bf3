//! Frames whose verdict is open, and who has sent copies of them meanwhile.

use std::collections::HashMap;

/// How many peers that have sent copies of one frame can share its verdict.
const COPIES: usize = 64;

/// The frames whose verdict is open, of all connections of one node.
///
/// There are at most as many as there are unfinished calls: their number is bounded by the
/// connections and [`Config::concurrency`](coalescent_core::Config::concurrency).
#[derive(Debug)]
pub(super) struct OpenVerdicts<P> {
    frames: HashMap<u128, Open<P>>,
}

/// A frame, or equal lines, whose verdict is open.
#[derive(Debug)]
struct Open<P> {
    /// The connections that delivered it as new.
    origins: Vec<u32>,
    /// The connections that have delivered copies, at most [`COPIES`], and their peers.
    copies: Vec<(u32, P)>,
}

impl<P> Default for OpenVerdicts<P> {
    fn default() -> Self {
        Self {
            frames: HashMap::new(),
        }
    }
}

impl<P: Clone> OpenVerdicts<P> {
    /// The verdict about a frame that the connection `origin` delivered is open.
    pub(super) fn begin(&mut self, frame: u128, origin: u32) {
        let open = self.frames.entry(frame).or_insert_with(|| Open {
            origins: Vec::new(),
            copies: Vec::new(),
        });
        open.origins.push(origin);
    }

    /// A connection has delivered a copy.
    pub(super) fn copy(&mut self, frame: u128, from: u32, peer: &P) {
        let Some(open) = self.frames.get_mut(&frame) else {
            return;
        };
        let known = open.origins.contains(&from) || open.copies.iter().any(|(one, _)| *one == from);
        if !known && open.copies.len() < COPIES {
            open.copies.push((from, peer.clone()));
        }
    }

    /// The verdict is there. Returns the peers that have sent copies meanwhile.
    pub(super) fn end(&mut self, frame: u128, origin: u32) -> Vec<P> {
        let Some(open) = self.frames.get_mut(&frame) else {
            return Vec::new();
        };
        if let Some(place) = open.origins.iter().position(|one| *one == origin) {
            open.origins.swap_remove(place);
        }
        let copies = std::mem::take(&mut open.copies);
        if open.origins.is_empty() {
            self.frames.remove(&frame);
            if self.frames.is_empty() {
                // A burst may have been large.
                self.frames = HashMap::new();
            }
        }
        copies.into_iter().map(|(_, peer)| peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_that_has_sent_a_copy_meanwhile_is_known_once() {
        let mut open = OpenVerdicts::default();
        open.copy(1, 20, &"too early");
        open.begin(1, 10);
        for _ in 0..3 {
            open.copy(1, 10, &"origin");
            open.copy(1, 20, &"twenty");
            open.copy(1, 30, &"thirty");
            open.copy(2, 40, &"of another frame");
        }
        assert_eq!(open.end(1, 10), ["twenty", "thirty"]);
        assert!(open.end(1, 10).is_empty() && open.frames.is_empty());
    }

    #[test]
    fn equal_lines_share_those_who_copy_them() {
        let mut open = OpenVerdicts::default();
        open.begin(1, 10);
        open.begin(1, 10);
        open.begin(1, 20);
        open.copy(1, 30, &"copies");
        assert_eq!(open.end(1, 10), ["copies"]);
        assert!(open.end(1, 20).is_empty());
        open.copy(1, 20, &"late");
        assert_eq!(open.end(1, 10), ["late"]);
        assert!(open.frames.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let mut open = OpenVerdicts::default();
        open.begin(1, 0);
        for from in 1..1000 {
            open.copy(1, from, &from);
        }
        assert_eq!(open.end(1, 0).len(), COPIES);
    }
}
