//! The peers of a mesh as services that tower discovers; requires the feature `discover`.
//!
//! [`PeerDiscover`] implements [`tower::discover::Discover`]: a stream of the peers that join and
//! leave. Each peer is a `Service<Message>`, see [`Peer`]. With it, tower's p2c [`Balance`] spreads
//! requests over the mesh.
//!
//! ```
//! use coalescent::{Mesh, MeshDiscoverExt, Message};
//! use tower::{ServiceExt, balance::p2c::Balance};
//! use tower::load::{CompleteOnResponse, PendingRequestsDiscover};
//!
//! async fn ask_anyone(mesh: &Mesh) -> Result<Message, tower::BoxError> {
//!     let load = PendingRequestsDiscover::new(mesh.discover(), CompleteOnResponse::default());
//!     Balance::new(load).oneshot(Message::new("time", &())).await
//! }
//! ```
//!
//! Keep one balancer, behind tower's `Buffer` to share it, instead of creating one for each
//! request: it tracks the load of each peer.
//!
//! # When a peer leaves
//!
//! The balancer stops choosing a peer as soon as it disconnects. A request in flight to that peer
//! fails with [`is_closed`](coalescent_core::Error::is_closed); a `Retry` around the balancer sends
//! it to another peer. Without any peer the balancer is not ready and waits for one; add a
//! `Timeout`, and a `LoadShed` or a `Buffer`, if that matters.
//!
//! # Which peers are included
//!
//! All peers whose wire supports requests; peers on `lines` and `raw` are left out. A peer that
//! fails requests immediately always looks idle and is chosen often, so filter the stream if not
//! every peer can answer.
//!
//! [`Balance`]: https://docs.rs/tower/0.5/tower/balance/p2c/struct.Balance.html

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::{Mesh, Peer, PeerChange, PeerChanges, Peers};
use futures_core::Stream;
use tower::discover::Change;

use crate::sealed::AsPeers;

/// A stream of the peers of a node, as services that take requests; implements
/// [`tower::discover::Discover`].
///
/// The key of a peer is the [`Peer`] itself, because several connections can share one id; a peer
/// that reconnects has a new key. The stream ends with the mesh.
///
/// ```
/// use coalescent::{App, MeshDiscoverExt, transport::Memory};
/// use futures_util::StreamExt;
/// use tower::discover::Change;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let peer = bob.connect("alice:1").await?;
/// let mut peers = bob.discover();
/// let Some(Ok(Change::Insert(key, _service))) = peers.next().await else { panic!("a peer") };
/// assert_eq!(key, peer);
/// alice.shutdown().await;
/// let Some(Ok(Change::Remove(gone))) = peers.next().await else { panic!("it has left") };
/// assert_eq!(gone, peer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct PeerDiscover {
    changes: PeerChanges,
}

/// Adds [`discover`](MeshDiscoverExt::discover) to [`Peers`] and [`Mesh`].
pub trait MeshDiscoverExt: AsPeers {
    /// Returns a stream of the peers connected now, followed by every peer that joins or leaves.
    fn discover(&self) -> PeerDiscover {
        PeerDiscover {
            changes: self.as_peers().changes(),
        }
    }
}

impl MeshDiscoverExt for Peers {}

impl MeshDiscoverExt for Mesh {}

impl Stream for PeerDiscover {
    type Item = Result<Change<Peer, Peer>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(change) = ready!(Pin::new(&mut self.changes).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            if !change.peer().wire().has_handshake() {
                continue;
            }
            let change = match change {
                PeerChange::Joined(peer) => Change::Insert(peer.clone(), peer),
                PeerChange::Left(peer) => Change::Remove(peer),
                _ => continue,
            };
            return Poll::Ready(Some(Ok(change)));
        }
    }
}
