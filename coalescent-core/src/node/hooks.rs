//! Hooks: what plugins run when peers connect and disconnect, when this node broadcasts, and when
//! frames of their channels arrive.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::error::Error;
use crate::node::dial::Dial;
use crate::node::peer::Peer;
use crate::outbox::Flow;
use crate::wire::{CHANNEL_NAME_MAX, MAX_CHANNELS};

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type PeerHook = Box<dyn Fn(Peer) -> BoxFuture + Send + Sync>;
type BroadcastHook = Box<dyn Fn(Option<u64>, &Bytes) + Send + Sync>;
type DialHook = Box<dyn Fn(&Dial) + Send + Sync>;

/// The hooks of a node's plugins, and what its stack is known to do.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Run when a peer has connected.
    pub(crate) connect: Vec<PeerHook>,
    /// Run when a peer has disconnected.
    pub(crate) disconnect: Vec<PeerHook>,
    /// Called with the nonce, if any, and the payload of each frame that this node sends to all.
    pub(crate) broadcast: Vec<BroadcastHook>,
    /// The channels, whose positions are their indexes in the HELLO of this node.
    pub(crate) channels: Vec<Channel>,
    /// Called with each dial of a seed or of a suggested address, when it has ended.
    pub(crate) dial: Vec<DialHook>,
    /// Whether frames from peers are relayed.
    pub(crate) relays: bool,
    /// The type of a stack that only relays, and the flow it relays with.
    pub(crate) relays_all: Option<(TypeId, Flow)>,
}

type ChannelHandler = Box<dyn Fn(Peer, Bytes) -> BoxFuture + Send + Sync>;

impl Hooks {
    /// Returns the names of the channels, in the order of their indexes.
    pub(crate) fn channel_names(&self) -> Vec<&str> {
        let channels = self.channels.iter();
        channels.map(|channel| channel.name.as_str()).collect()
    }
}

/// A channel that a plugin has registered.
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) handler: ChannelHandler,
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

/// Checks the channels that plugins have registered: their names and their number.
///
/// # Errors
///
/// [`is_config`](Error::is_config) if a name is empty, too long, or taken, or there are too many.
pub(crate) fn check_channels(channels: &[Channel]) -> Result<(), Error> {
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
        assert!(check_channels(&channels(&["a/1", "b/1"])).is_ok());
        assert!(check_channels(&channels(&["a/1", "b/1", "a/1"])).is_err());
        assert!(check_channels(&channels(&[""])).is_err());
        assert!(check_channels(&channels(&[&"x".repeat(32)])).is_ok());
        assert!(check_channels(&channels(&[&"x".repeat(33)])).is_err());
        let names: Vec<_> = (0..17).map(|number| format!("{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(check_channels(&channels(&names)).is_err());
        assert!(check_channels(&channels(&names[..16])).is_ok());
    }
}
