//! What becomes of a message of a peer, before the engine sees it.

use coalescent_core::Address;
use tokio::time::Instant;

use super::address::Rules;
use super::bucket::Bucket;
use super::ids::Key;
use super::mirror::{Few, Gossip, Info, Message, Part, Raw, Scope, Swarm};
use crate::discovery::place::Place;

/// The longest walk of a message, in hops. A longer one is cut to this.
pub const MAX_TTL: u16 = 6;

/// The most hops that a payload of a tree can have made.
pub const MAX_ROUND: u16 = 1000;

/// Why a message was not heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// It belongs to a topic that this node does not take part in.
    Topic,
    /// Its sender is no neighbour, and only those may say this.
    Stranger,
    /// It announces more payloads than the sender may.
    Ids,
    /// The topic has no tree.
    Tree,
    /// It is about this node itself, or about nobody that can be dialled.
    Nobody,
    /// The sender says too much.
    Rate,
    /// The sender was to take the place of a neighbour, and nobody gave way.
    Forced,
    /// What waits to be written, or to be dialled, is too much already.
    Full,
}

impl Refused {
    /// All reasons.
    pub(crate) const ALL: [Self; 8] = [
        Self::Topic,
        Self::Stranger,
        Self::Ids,
        Self::Tree,
        Self::Nobody,
        Self::Rate,
        Self::Forced,
        Self::Full,
    ];

    /// Returns the name of the reason, as metrics have it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Stranger => "stranger",
            Self::Ids => "ids",
            Self::Tree => "tree",
            Self::Nobody => "nobody",
            Self::Rate => "rate",
            Self::Forced => "forced",
            Self::Full => "full",
        }
    }
}

/// What is decided about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It is heeded, as far as it is left.
    Take,
    /// It is not heeded, and that is counted.
    Drop(Refused),
    /// No honest node sends it.
    Fault(&'static str),
}

/// What a decision takes into account.
pub(crate) struct Scene<'a> {
    pub(crate) rules: Rules<'a>,
    /// The sender, as its connection shows it.
    pub(crate) from: Key,
    /// Where the sender is.
    pub(crate) place: Place,
    /// Where the sender listens, as far as its introduction says.
    pub(crate) listen: Option<Address>,
    /// Whether a peer can be reached without being told where it is.
    pub(crate) reachable: &'a dyn Fn(&Key) -> bool,
    /// Whether the topic of the message has a tree; `None` if this node does not take part in it.
    pub(crate) tree: Option<bool>,
    /// What the sender can still announce, if it is a neighbour in the topic.
    pub(crate) ids: Option<&'a mut Bucket>,
}

/// An address that was learned.
pub(crate) type Learned = (Key, Address);

/// Decides about a message, and leaves of it what is heeded: without the addresses, which are put
/// into `learned`.
pub(crate) fn judge(
    scene: &mut Scene<'_>,
    message: &mut Message<'_>,
    learned: &mut Vec<Learned>,
    now: Instant,
) -> Ruling {
    let Some(tree) = scene.tree else {
        return Ruling::Drop(Refused::Topic);
    };
    let neighbour = scene.ids.is_some();
    match &mut message.part {
        Part::Swarm(swarm) => match swarm {
            Swarm::Join(data) | Swarm::Neighbor { data, .. } => {
                let said = data.take();
                direct(scene, said, learned)
            }
            Swarm::ForwardJoin { .. } if !neighbour => Ruling::Drop(Refused::Stranger),
            Swarm::ForwardJoin { peer, ttl } => {
                *ttl = (*ttl).min(MAX_TTL);
                match named(scene, peer, learned) {
                    Ok(true) => Ruling::Take,
                    Ok(false) => Ruling::Drop(Refused::Nobody),
                    Err(why) => Ruling::Fault(why),
                }
            }
            Swarm::Shuffle { origin, nodes, ttl } => {
                *ttl = (*ttl).min(MAX_TTL);
                let taken = listed(scene, nodes, learned);
                if let Err(why) = taken {
                    return Ruling::Fault(why);
                }
                // It must be answered, and is not if it walks on.
                let told = learned.iter().any(|(key, _)| key == origin);
                if !scene.rules.is_other(origin) || !(told || (scene.reachable)(origin)) {
                    return Ruling::Drop(Refused::Nobody);
                }
                Ruling::Take
            }
            Swarm::ShuffleReply { nodes } => match listed(scene, nodes, learned) {
                Ok(()) => Ruling::Take,
                Err(why) => Ruling::Fault(why),
            },
            Swarm::Disconnect { .. } => Ruling::Take,
        },
        Part::Gossip(gossip) => {
            let ruling = judge_gossip(gossip, tree, neighbour);
            match (ruling, gossip, scene.ids.as_deref_mut()) {
                (Ruling::Take, Gossip::IHave(ids), Some(bucket)) => announced(bucket, ids, now),
                (ruling, ..) => ruling,
            }
        }
    }
}

/// Decides about a message about payloads. `tree` says whether its topic has a tree, and
/// `neighbour` whether the sender is one there. How many payloads it [announces](announced) is not
/// looked at.
pub(crate) fn judge_gossip(gossip: &Gossip<'_>, tree: bool, neighbour: bool) -> Ruling {
    match gossip {
        _ if !neighbour => Ruling::Drop(Refused::Stranger),
        Gossip::Gossip {
            scope: Scope::Swarm(round),
            ..
        } if *round > MAX_ROUND => Ruling::Fault("a payload has made over 1000 hops"),
        Gossip::Gossip { .. } => Ruling::Take,
        _ if !tree => Ruling::Drop(Refused::Tree),
        Gossip::IHave(_) | Gossip::Prune | Gossip::Graft { .. } => Ruling::Take,
    }
}

/// Decides about what the sender says of itself.
fn direct(scene: &Scene<'_>, said: Option<Raw<'_>>, learned: &mut Vec<Learned>) -> Ruling {
    let rules = &scene.rules;
    let said = match said.map(|said| rules.told(&scene.from, said, scene.place)) {
        Some(Err(_)) => return Ruling::Fault(OWN),
        Some(Ok(address)) => address,
        None => None,
    };
    // A node that listens at all addresses does not know which one leads to it: then it is where
    // it is seen, with the port at which it listens.
    let listen = || rules.believed(&scene.from, scene.listen.clone()?, scene.place);
    if let Some(address) = said.or_else(listen) {
        learned.push((scene.from, address));
    }
    Ruling::Take
}

const OWN: &str = "the address that it says it has is none, or another's";
const NAMED: &str = "it names a peer that cannot be, or has not that address";

/// Decides about a peer that is named, and returns whether it is heeded.
fn named(
    scene: &Scene<'_>,
    info: &mut Info<'_>,
    learned: &mut Vec<Learned>,
) -> Result<bool, &'static str> {
    let rules = &scene.rules;
    if info.id == *rules.me {
        return Ok(false);
    }
    if !rules.is_other(&info.id) {
        return Err(NAMED);
    }
    let address = match info.data.take() {
        Some(data) => rules.told(&info.id, data, scene.place).map_err(|_| NAMED)?,
        None => None,
    };
    // Of itself, the sender has said where it listens.
    let listen = || scene.listen.clone().filter(|_| info.id == scene.from);
    let listen = || rules.believed(&info.id, listen()?, scene.place);
    let reachable = (scene.reachable)(&info.id);
    match address.or_else(listen) {
        Some(address) => learned.push((info.id, address)),
        None if reachable => {}
        None => return Ok(false),
    }
    Ok(true)
}

fn listed<const MAX: usize>(
    scene: &Scene<'_>,
    nodes: &mut Few<Info<'_>, MAX>,
    learned: &mut Vec<Learned>,
) -> Result<(), &'static str> {
    let mut fault = None;
    nodes.0.retain_mut(|info| {
        let heeded = named(scene, info, learned);
        heeded.unwrap_or_else(|why| {
            fault = Some(why);
            false
        })
    });
    fault.map_or(Ok(()), Err)
}

/// Decides about the payloads that a neighbour announces.
///
/// The engine keeps what it is told of each until it has it, and longer.
pub(crate) fn announced<const MAX: usize>(
    bucket: &mut Bucket,
    ids: &mut Few<(Key, u16), MAX>,
    now: Instant,
) -> Ruling {
    let count = u32::try_from(ids.0.len()).unwrap_or(u32::MAX);
    let got = bucket.take(count, now);
    ids.0.truncate(usize::try_from(got).unwrap_or(usize::MAX));
    if got == 0 {
        return Ruling::Drop(Refused::Ids);
    }
    Ruling::Take
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
