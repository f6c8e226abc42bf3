//! Puts addresses into what the engine sends: it knows none.

use bytes::Bytes;
use coalescent_core::Address;

use super::ids::Key;
use super::mirror::{Info, Message, Part, Raw, Swarm};

/// What is of note in a message that was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The node joins through the receiver.
    Join,
    /// It asks the receiver to be a neighbour, and may be refused.
    Ask,
    /// It asks, or tells, the receiver to be a neighbour.
    Tell,
    /// It begins a walk.
    Walk,
    /// It takes leave of the receiver.
    Leave,
    /// Anything else.
    Other,
}

/// Returns a message of the engine of `me` with the addresses of those whom it names, and what it
/// is. Whoever has no address is left out, since nobody could reach it.
pub(crate) fn filled(
    me: &Key,
    bytes: Bytes,
    address: impl Fn(&Key) -> Option<Address>,
) -> (Bytes, Kind) {
    let Ok(mut message) = Message::decode(&bytes) else {
        return (bytes, Kind::Other);
    };
    let Part::Swarm(swarm) = &mut message.part else {
        return (bytes, Kind::Other);
    };
    let text = |key: &Key| address(key).map(|address| address.to_string());
    let own;
    let texts: Vec<Option<String>>;
    let kind = match swarm {
        Swarm::Join(data) => {
            own = text(me);
            *data = own.as_deref().map(raw);
            Kind::Join
        }
        Swarm::Neighbor { priority, data } => {
            own = text(me);
            *data = own.as_deref().map(raw);
            match priority {
                super::mirror::Priority::Low => Kind::Ask,
                super::mirror::Priority::High => Kind::Tell,
            }
        }
        Swarm::ForwardJoin { peer, .. } => {
            own = text(&peer.id);
            peer.data = own.as_deref().map(raw);
            Kind::Other
        }
        Swarm::Shuffle { nodes, origin, .. } => {
            texts = nodes.0.iter().map(|info| text(&info.id)).collect();
            put(&mut nodes.0, &texts);
            if origin == me {
                Kind::Walk
            } else {
                Kind::Other
            }
        }
        Swarm::ShuffleReply { nodes } => {
            texts = nodes.0.iter().map(|info| text(&info.id)).collect();
            put(&mut nodes.0, &texts);
            Kind::Other
        }
        Swarm::Disconnect { .. } => return (bytes, Kind::Leave),
    };
    (message.encode(), kind)
}

fn raw(text: &str) -> Raw<'_> {
    Raw(text.as_bytes())
}

fn put<'a>(nodes: &mut Vec<Info<'a>>, texts: &'a [Option<String>]) {
    for (info, text) in nodes.iter_mut().zip(texts) {
        info.data = text.as_deref().map(raw);
    }
    nodes.retain(|info| info.data.is_some());
}
