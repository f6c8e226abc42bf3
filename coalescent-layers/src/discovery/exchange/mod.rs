//! Peer exchange: nodes ask their peers for addresses of others, over the channel [`CHANNEL`].
//!
//! The plugin [`Exchange`] asks the peers that this node has dialled, once when they connect and
//! then every [`ASK_EVERY`], and answers every peer that asks. What it learns goes into the
//! [`Book`], from where the mesh dials when it wants peers. Most apps add it with
//! [`Discovery`](super::Discovery).
//!
//! # What is told
//!
//! The addresses that this node has dialled with success within three days, and those at which
//! inbound peers say that they listen, if they are seen at the same host. Never the asker's own, at
//! most [`MAX_ADDRESSES`], and at most half of what is known. From [`SAME_FROM`] known addresses
//! on, all get the same answer for [`SAME_FOR`], so that nobody can read the whole book by asking
//! often. Of a host on the internet one address is told, and a peer on the internet is told no
//! private address. For a host name that was dialled, the IP address that it led to is told.
//!
//! # What is believed
//!
//! Whatever peers tell only ever leads to a dial, at the mesh's own pace, and only if no better
//! addresses are known. Of one peer, or all peers of one host, [`TAKE_AT_ONCE`] addresses are
//! taken, and then one every [`TAKE_EVERY`]; the rest is passed over. A peer is believed about
//! places that it can reach itself:
//!
//! | the peer is connected from | what is taken of it |
//! |---|---|
//! | loopback | everything that can be dialled |
//! | a private or link-local address | private and public IP addresses |
//! | a public address | public IP addresses |
//! | a transport without addresses | host names and public IP addresses |
//!
//! Unspecified, multicast, documentation and reserved addresses are never taken, neither are those
//! that this node [may not dial](coalescent_core::Mesh::may_dial), nor its own: where it listens,
//! at the hosts at which the peers see it that it has dialled. Inbound peers are not believed about
//! that: each could hide an address of others. Where an inbound peer says that it listens, if it is
//! not seen there, counts as told by it.
//!
//! All addresses of one network compete for few places of the book, so that nobody fills it with
//! addresses of a network of his own. An address on this machine or in a private network that finds
//! no place there is suggested to the mesh beside the book.
//!
//! # Faults
//!
//! Answers that were not asked for, or are longer than asked, and bytes that are no message, are
//! faults of weight [`FAULT`]: nothing of them is kept, and a peer that commits more than five of
//! them in a minute is disconnected, see
//! [`Config::error_budget`](coalescent_core::Config::error_budget).

mod asking;
mod message;
mod node;
mod taking;
mod telling;

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use coalescent_core::{Plugin, Registrar};

pub use self::asking::ASK_EVERY;
pub use self::message::{
    CHANNEL, ExchangeMessage, ExchangeMessageError, MAX_ADDRESS, MAX_ADDRESSES, MAX_MESSAGE,
};
use self::node::Node;
pub use self::node::{FAULT, MAX_NAMES};
pub use self::taking::{MAX_SOURCES, TAKE_AT_ONCE, TAKE_EVERY};
pub use self::telling::{SAME_FOR, SAME_FROM};
use super::book::Book;

/// Exchanges addresses with peers; see the [module](self).
///
/// It needs an [`AddressBook`](super::book::AddressBook), which keeps the addresses and has them
/// dialled:
///
/// ```
/// use coalescent::{App, AppExt};
/// use coalescent::discovery::book::AddressBook;
/// use coalescent::discovery::exchange::Exchange;
///
/// let book = AddressBook::new();
/// # let _ =
/// App::new().plugin(Exchange::new(book.book())).plugin(book)
/// # ;
/// ```
#[must_use = "a plugin does nothing until it is added with `plugin`"]
pub struct Exchange {
    node: Arc<Node>,
    passive: bool,
}

impl Exchange {
    /// Creates an exchange of the addresses in `book`.
    pub fn new(book: &Book) -> Self {
        Self {
            node: Arc::new(Node::new(book.clone())),
            passive: false,
        }
    }

    /// Sets whether this node only answers, and asks nobody. Default: false.
    pub fn passive(self, passive: bool) -> Self {
        Self { passive, ..self }
    }
}

impl Plugin for Exchange {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        let node = Arc::clone(&self.node);
        app.channel(CHANNEL, move |peer, payload| {
            let node = Arc::clone(&node);
            async move { node.heard(&peer, &payload).await }
        });
        let node = Arc::clone(&self.node);
        app.on_connect(move |peer| {
            node.connected(&peer);
            ready(())
        });
        let node = Arc::clone(&self.node);
        app.on_dial(move |dial| node.dialled(dial));
        if self.passive {
            return;
        }
        let node = Arc::clone(&self.node);
        app.spawn(move |mesh| async move { node.ask_in_time(mesh).await });
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}
