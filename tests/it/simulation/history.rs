//! What was sent, seen on links and delivered, and whether that fits together.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use coalescent::{DropReason, NodeId, Stats};

/// One message, by its number.
pub(crate) type Message = u32;

/// When something happened, in simulated time; what happens at the same time is in order.
type At = (Duration, u64);

#[derive(Debug)]
#[expect(dead_code, reason = "some of it is only shown, when a check fails")]
pub(crate) enum Happened {
    /// The application of a node said something.
    Sent(Message),
    /// A frame came over the link from this node, before any layer saw it.
    Crossed(NodeId, Message),
    /// A frame came out of the read side.
    Delivered(Message),
    Connected(NodeId),
    Disconnected(NodeId, String),
    Dropped(NodeId, DropReason, u64),
    /// The reader of the events was too slow: the history is not whole.
    Missed(u64),
    Crashed,
}

/// Everything that happened, at all nodes. A node that is started again is another one.
#[derive(Default)]
pub(crate) struct History {
    entries: Vec<(At, NodeId, Happened)>,
    /// To whom each message was delivered, for those who wait for it.
    delivered: HashMap<Message, HashSet<NodeId>>,
    /// Who is running, under which name.
    pub(crate) running: BTreeMap<usize, NodeId>,
}

/// How long one connection of a node to another was up, as that node saw it.
type Links = HashMap<(NodeId, NodeId), Vec<(At, Option<At>)>>;

impl History {
    pub(crate) fn add(&mut self, time: Duration, node: NodeId, happened: Happened) {
        let at = (time, self.entries.len() as u64);
        if let Happened::Delivered(message) = happened {
            self.delivered.entry(message).or_default().insert(node);
        }
        self.entries.push((at, node, happened));
    }

    fn links(&self) -> Links {
        let mut links = Links::new();
        for (at, node, happened) in &self.entries {
            match happened {
                Happened::Connected(peer) => {
                    links.entry((*node, *peer)).or_default().push((*at, None));
                }
                Happened::Disconnected(peer, _) => {
                    let spells = links.get_mut(&(*node, *peer)).expect("it was connected");
                    spells.last_mut().expect("it was connected").1 = Some(*at);
                }
                _ => {}
            }
        }
        links
    }

    fn sent(&self) -> impl Iterator<Item = (At, NodeId, Message)> + '_ {
        self.entries
            .iter()
            .filter_map(|(at, node, happened)| match happened {
                Happened::Sent(message) => Some((*at, *node, *message)),
                _ => None,
            })
    }

    /// Whether all who run have a message, but the one of them who said it.
    pub(crate) fn is_everywhere(&self, message: Message) -> bool {
        let got = self.delivered.get(&message).map_or(0, |nodes| {
            self.running
                .values()
                .filter(|node| nodes.contains(node))
                .count()
        });
        got + 1 == self.running.len()
    }

    /// Checks all that must hold whatever the network did.
    ///
    /// Returns how many deliveries were owed, because connections led there that never ended.
    pub(crate) fn check(&self) -> usize {
        let mut sent = HashMap::new();
        let mut crossed = HashSet::new();
        let mut came = HashSet::new();
        let mut delivered = HashSet::new();
        for (at, node, happened) in &self.entries {
            match happened {
                Happened::Sent(message) => {
                    sent.insert(*message, *node);
                }
                Happened::Crossed(from, message) => {
                    assert!(sent.contains_key(message), "{message} came from nowhere");
                    came.insert((*node, *message));
                    let first = crossed.insert((*node, *from, *message));
                    assert!(
                        first,
                        "{message} crossed the link {from:?} to {node:?} twice"
                    );
                }
                Happened::Delivered(message) => {
                    assert_ne!(
                        sent.get(message),
                        Some(node),
                        "{message} came back to its sender"
                    );
                    let first = delivered.insert((*node, *message));
                    assert!(
                        first,
                        "{message} was delivered to {node:?} twice, at {at:?}"
                    );
                    let came = came.contains(&(*node, *message));
                    assert!(
                        came,
                        "{message} was delivered to {node:?} and crossed no link"
                    );
                }
                Happened::Dropped(_, DropReason::Full, frames) => {
                    panic!("{frames} frames had no room, with a few bytes on the way");
                }
                Happened::Missed(_) => panic!("the history is not whole"),
                _ => {}
            }
        }
        self.nothing_silent(&delivered)
    }

    /// A frame may be lost with a connection, and then its end was told. So what is said while
    /// connections are up that never end must reach everyone whom they lead to.
    fn nothing_silent(&self, delivered: &HashSet<(NodeId, Message)>) -> usize {
        let mut owed = 0;
        let links = self.links();
        for (at, sender, message) in self.sent() {
            let stays = |a: NodeId, b: NodeId| {
                links
                    .get(&(a, b))
                    .and_then(|spells| spells.last())
                    .is_some_and(|(from, until)| *from < at && until.is_none())
            };
            let mut reached = HashSet::from([sender]);
            let mut next = VecDeque::from([sender]);
            // A node that was killed ended all its connections, and told nobody.
            if !self.running.values().any(|node| *node == sender) {
                continue;
            }
            while let Some(node) = next.pop_front() {
                for other in self.running.values() {
                    if stays(node, *other) && stays(*other, node) && reached.insert(*other) {
                        next.push_back(*other);
                    }
                }
            }
            for node in reached.iter().filter(|node| **node != sender) {
                owed += 1;
                assert!(
                    delivered.contains(&(*node, message)),
                    "{message}, sent by {sender:?} at {at:?}, was lost silently on its way to {node:?}"
                );
            }
        }
        owed
    }

    /// How many deliveries there could have been, and how many there were.
    pub(crate) fn reach(&self) -> (usize, usize) {
        let sent = self.sent().count();
        let delivered =
            |(_, _, happened): &&(At, NodeId, Happened)| matches!(happened, Happened::Delivered(_));
        let possible = sent * (self.running.len() - 1);
        (possible, self.entries.iter().filter(delivered).count())
    }

    pub(crate) fn count(&self, matching: impl Fn(&Happened) -> bool) -> usize {
        self.entries
            .iter()
            .filter(|(_, _, happened)| matching(happened))
            .count()
    }

    /// Shows what happened, to find out why a check failed.
    pub(crate) fn print(&self) {
        let names: HashMap<&NodeId, &usize> = self
            .running
            .iter()
            .map(|(name, node)| (node, name))
            .collect();
        for ((time, _), node, happened) in &self.entries {
            if !matches!(happened, Happened::Crossed(..) | Happened::Delivered(_)) {
                println!("{time:?} {node:?} ({:?}): {happened:?}", names.get(node));
            }
        }
    }
}

/// Checks the counters of a node that ran to the end against what its application was told.
pub(crate) fn check_stats(stats: Stats, queued: u64) {
    assert!(
        stats.sent <= queued,
        "{stats:?}, but {queued} were accepted"
    );
    assert!(
        stats.sent + stats.dropped >= queued,
        "of {queued} accepted, some were neither written nor reported: {stats:?}"
    );
    assert!(
        stats.delivered + stats.duplicates <= stats.received,
        "{stats:?}"
    );
}
