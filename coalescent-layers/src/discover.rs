//! The peers of a mesh as services that tower discovers; with the feature `discover`.
//!
//! [`PeerDiscover`] is a [`tower::discover::Discover`]: a stream of the peers that come and go, each of which is
//! a `Service<Message>` (see [`Peer`]). With it, tower's p2c [`Balance`] spreads requests over the
//! mesh.
//!
//! ```
//! use coalescent_core::{Mesh, Message};
//! use coalescent_layers::DiscoverExt;
//! use tower::{ServiceExt, balance::p2c::Balance};
//! use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
//!
//! async fn ask_anyone(mesh: &Mesh) -> Result<Message, tower::BoxError> {
//!     let load = PendingRequestsDiscover::new(mesh.discover(), CompleteOnResponse::default());
//!     Balance::new(load).oneshot(Message::new("time", &())).await
//! }
//! ```
//!
//! Keep one balancer (behind tower's `Buffer`, to share it) rather than making one for each
//! request: it remembers how busy each peer is.
//!
//! # When a peer leaves
//!
//! The balancer chooses among those who stay, as soon as the peer is gone. A request that was in
//! flight fails with [`is_closed`](coalescent_core::Error::is_closed); a `Retry` around the
//! balancer asks another. With no peer at all the balancer is not ready, and waits for one: put a
//! `Timeout` and a `LoadShed` or a `Buffer` where that matters.
//!
//! # Who is asked
//!
//! All peers whose wire has requests; those on `lines` and `raw` are left out. A peer that fails at
//! once is never busy, and so is asked often: filter the stream where not every peer can answer.
//!
//! [`Balance`]: https://docs.rs/tower/0.5/tower/balance/p2c/struct.Balance.html

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::{Mesh, Peer, PeerChange, PeerChanges, Peers};
use futures_core::Stream;
use tower::discover::Change;

use crate::sealed::AsPeers;

/// Discovers the peers of a node, as services that take requests.
///
/// It is a stream, and so a [`tower::discover::Discover`]. The key of a peer is the [`Peer`]
/// itself, since several connections can have one id: a peer that comes back is another. It ends
/// with the mesh.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct PeerDiscover {
    changes: PeerChanges,
}

/// Adds [`discover`](DiscoverExt::discover) to [`Peers`] and to a [`Mesh`].
pub trait DiscoverExt: AsPeers {
    /// Returns a stream of the peers connected now, followed by every peer that joins or leaves.
    fn discover(&self) -> PeerDiscover {
        PeerDiscover {
            changes: self.as_peers().changes(),
        }
    }
}

impl DiscoverExt for Peers {}

impl DiscoverExt for Mesh {}

impl Stream for PeerDiscover {
    type Item = Result<Change<Peer, Peer>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(change) = ready!(Pin::new(&mut self.changes).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let (PeerChange::Joined(peer) | PeerChange::Left(peer)) = &change;
            if !peer.wire().has_handshake() {
                continue;
            }
            return Poll::Ready(Some(Ok(match change {
                PeerChange::Joined(peer) => Change::Insert(peer.clone(), peer),
                PeerChange::Left(peer) => Change::Remove(peer),
            })));
        }
    }
}
