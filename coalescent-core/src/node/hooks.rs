//! Hooks: what plugins run when peers and contacts connect and disconnect, when this node
//! broadcasts, when a dial has ended, and when frames of their channels arrive.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::error::Error;
use crate::message::TopicName;
use crate::node::peer::Peer;
use crate::node::suggestion::Source;
use crate::outbox::Flow;
use crate::transport::address::Address;
use crate::wire::{CHANNEL_NAME_MAX, MAX_CHANNELS};

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type PeerHook = Box<dyn Fn(Peer) -> BoxFuture + Send + Sync>;
type BroadcastHook = Box<dyn Fn(Option<u64>, &Bytes) + Send + Sync>;
pub(crate) type ContactHook = Box<dyn Fn(&Peer) + Send + Sync>;
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
    /// Called with each dial of a seed or of a suggested address, when it has ended.
    pub(crate) dial: Vec<DialHook>,
    /// The channels, whose positions are their indexes in the HELLO of this node.
    pub(crate) channels: Vec<Channel>,
    /// The topics that this node wants, each once.
    pub(crate) topics: Vec<TopicName>,
    /// The channels of which peers that list them begin as contacts.
    pub(crate) contacts: Vec<String>,
    /// Called with each contact that is connected.
    pub(crate) contact: Vec<ContactHook>,
    /// Called with each contact that has ended without having become a peer.
    pub(crate) contact_end: Vec<ContactHook>,
    /// Whether frames from peers are relayed.
    pub(crate) relays: bool,
    /// The type of a stack that only relays, and the flow it relays with.
    pub(crate) relays_all: Option<(TypeId, Flow)>,
    /// Makes the random choices of the node repeatable.
    pub(crate) seed: Option<u64>,
}

impl Hooks {
    /// Returns where the random choices of the node come from.
    pub(crate) fn rng(&self) -> StdRng {
        self.seed
            .map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64)
    }
}

/// A dial that has ended, for [`Registrar::on_dial`](crate::Registrar::on_dial).
#[derive(Debug)]
pub struct Dial {
    pub(crate) address: Address,
    pub(crate) source: Source,
    pub(crate) socket_addr: Option<SocketAddr>,
    pub(crate) result: Result<Peer, Error>,
}

impl Dial {
    /// Returns the address that was dialled.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns where the address comes from: [`Source::SEED`] if it is a seed, else the source that
    /// suggested it first.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Returns the socket address to which a connection was opened, whatever became of it; `None`
    /// if no connection was opened. Of several, it is the last.
    #[must_use]
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        self.socket_addr
    }

    /// Returns the peer at the other end: one that this dial has connected, or one that was
    /// connected already.
    ///
    /// # Errors
    ///
    /// - [`is_itself`](Error::is_itself) if only this node itself is there.
    /// - [`is_busy`](Error::is_busy) if the peer has no place for now.
    /// - [`is_refused`](Error::is_refused) if either side refused the other. On wires without node
    ///   numbers it also means that another connection leads to the address already.
    /// - [`is_dial`](Error::is_dial), [`is_timeout`](Error::is_timeout) or
    ///   [`is_handshake`](Error::is_handshake) if no peer answers there.
    pub const fn result(&self) -> Result<&Peer, &Error> {
        self.result.as_ref()
    }
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
/// [`is_config`](Error::is_config) if a name is empty, too long, or taken, or there are too many,
/// or that of contacts is not among them.
pub(crate) fn check_channels(channels: &[Channel], contacts: &[String]) -> Result<(), Error> {
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
    let is_registered = |name: &String| channels.iter().any(|channel| channel.name == *name);
    if let Some(name) = contacts.iter().find(|name| !is_registered(name)) {
        return refuse(format!(
            "the channel {name:?}, of contacts, is not registered: add a handler with \
             `Registrar::channel`"
        ));
    }
    Ok(())
}

/// Checks the topics that the plugins have declared.
///
/// # Errors
///
/// If one has no name.
pub(crate) fn check_topics(topics: &[TopicName]) -> Result<(), Error> {
    if topics.iter().any(|name| name.is_empty()) {
        return Err(Error::config(
            "a topic has an empty name, which stands for the mesh itself: give it another one",
        ));
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
        assert!(check_channels(&channels(&["a/1", "b/1"]), &[]).is_ok());
        assert!(check_channels(&channels(&["a/1", "b/1", "a/1"]), &[]).is_err());
        assert!(check_channels(&channels(&[""]), &[]).is_err());
        assert!(check_channels(&channels(&[&"x".repeat(32)]), &[]).is_ok());
        assert!(check_channels(&channels(&[&"x".repeat(33)]), &[]).is_err());
        let names: Vec<_> = (0..17).map(|number| format!("{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(check_channels(&channels(&names), &[]).is_err());
        assert!(check_channels(&channels(&names[..16]), &[]).is_ok());
    }
}
