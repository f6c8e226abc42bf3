//! Channels: frames between the plugins of two nodes, apart from those for the stack.
//!
//! | file | role |
//! |---|---|
//! | `mod` | what is registered, and what a peer has listed |
//! | `inlet` | what waits for one handler: a decision without clock or lock |
//! | `receive` | calls the handlers with the frames of one peer |
//! | `send` | sends to a peer |

mod inlet;
mod receive;
mod send;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
pub use inlet::CHANNEL_INBOX;
use inlet::Inlet;

use crate::error::Error;
use crate::node::hooks::BoxFuture;
use crate::node::peer::Peer;
use crate::wire::{CHANNEL_NAME_MAX, MAX_CHANNELS};

/// Says that the peer's channel is not known here.
const UNKNOWN: u8 = u8::MAX;

type Handler = Box<dyn Fn(Peer, Bytes) -> BoxFuture + Send + Sync>;

/// A channel that a plugin has registered.
pub(crate) struct Channel {
    pub(crate) name: String,
    handler: Handler,
}

impl Channel {
    pub(crate) fn new<F, Fut>(name: String, handler: F) -> Self
    where
        F: Fn(Peer, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            handler: Box::new(move |peer, payload| Box::pin(handler(peer, payload))),
        }
    }
}

/// Checks the channels that plugins have registered.
///
/// # Errors
///
/// [`is_config`](Error::is_config) if a name is empty, too long, or taken, or there are too many.
pub(crate) fn check(channels: &[Channel]) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::config(text));
    if channels.len() > MAX_CHANNELS {
        return refuse(format!(
            "{} channels are registered, and a node can have at most {MAX_CHANNELS}",
            channels.len()
        ));
    }
    for (index, Channel { name, .. }) in channels.iter().enumerate() {
        if name.is_empty() || name.len() > CHANNEL_NAME_MAX {
            return refuse(format!(
                "the name of the channel {name:?} must be from 1 to {CHANNEL_NAME_MAX} bytes"
            ));
        }
        if channels.iter().take(index).any(|other| other.name == *name) {
            return refuse(format!(
                "the channel {name:?} is registered twice: a plugin was added twice, or two plugins \
                 use one name"
            ));
        }
    }
    Ok(())
}

/// The channels that a peer and this node both know.
pub(crate) struct PeerChannels {
    /// For each channel in the peer's list its index among those of this node, or [`UNKNOWN`].
    theirs: Box<[u8]>,
    /// Whether a handler runs, or a frame waits for one.
    busy: AtomicBool,
    received: Mutex<Received>,
}

/// What was received on the channels of a peer, and is not handled.
struct Received {
    /// One for each channel of this node.
    inlets: Box<[Inlet<BoxFuture>]>,
    /// Whether the peer has left.
    closed: bool,
}

impl PeerChannels {
    /// Returns `None` if no name is in both lists.
    pub(crate) fn new(own: &[Channel], listed: &[String]) -> Option<Box<Self>> {
        let index = |name: &String| {
            let own = own.iter().position(|channel| channel.name == *name);
            own.and_then(|own| u8::try_from(own).ok())
                .unwrap_or(UNKNOWN)
        };
        let theirs: Box<[u8]> = listed.iter().map(index).collect();
        theirs.iter().any(|own| *own != UNKNOWN).then(|| {
            Box::new(Self {
                theirs,
                busy: AtomicBool::new(false),
                received: Mutex::new(Received {
                    inlets: own.iter().map(|_| Inlet::default()).collect(),
                    closed: false,
                }),
            })
        })
    }

    /// Returns the channel of this node that the peer has at `index`.
    fn own(&self, index: u8) -> Option<usize> {
        let own = *self.theirs.get(usize::from(index))?;
        (own != UNKNOWN).then_some(usize::from(own))
    }

    /// Returns whether the peer has listed this node's channel `own`.
    fn lists(&self, own: usize) -> bool {
        self.theirs.iter().any(|index| usize::from(*index) == own)
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(names: &[&str]) -> Vec<Channel> {
        let channel = |name: &&str| Channel::new((*name).to_owned(), |_, _| async {});
        names.iter().map(channel).collect()
    }

    #[test]
    fn names_are_short_and_each_is_registered_once() {
        assert!(check(&channels(&["a/1", "b/1"])).is_ok());
        assert!(check(&channels(&["a/1", "b/1", "a/1"])).is_err());
        assert!(check(&channels(&[""])).is_err());
        assert!(check(&channels(&[&"x".repeat(32)])).is_ok());
        assert!(check(&channels(&[&"x".repeat(33)])).is_err());
        let names: Vec<_> = (0..17).map(|number| format!("{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(check(&channels(&names)).is_err());
        assert!(check(&channels(&names[..16])).is_ok());
    }

    #[test]
    fn an_index_is_that_of_the_senders_list() {
        let own = channels(&["a/1", "b/1", "c/1"]);
        let listed = ["c/1", "x/1", "a/1"].map(str::to_owned);
        let peer = PeerChannels::new(&own, &listed).expect("common channels");
        assert_eq!(
            [0, 1, 2, 3, 255].map(|index| peer.own(index)),
            [Some(2), None, Some(0), None, None]
        );
        assert_eq!([0, 1, 2].map(|own| peer.lists(own)), [true, false, true]);
        assert!(PeerChannels::new(&own, &["x/1".to_owned()]).is_none());
        assert!(PeerChannels::new(&[], &listed).is_none());
    }
}
