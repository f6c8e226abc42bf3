//! The stack that each peer's frames pass through: its bounds, reply, and innermost service.
//!
//! A stack is a tower `Service<Frame>` made of the app's layers around the [`Inbox`]. It is built
//! once for each connection.

pub(crate) mod inbox;
pub(crate) mod reply;

pub use inbox::{Inbox, InboxFuture, READ_BY_GRACE, ReadBy};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::frame::Frame;
use crate::stack::reply::Reply;

/// A finished stack: a service that handles the frames of one peer.
///
/// This is an alias for the bounds of such a service. It is implemented for every type that
/// satisfies them; name it only in bounds of your own.
///
/// ```
/// use coalescent::{Error, Mesh, PeerService, Peers, connection};
/// use tokio::io::{AsyncRead, AsyncWrite};
///
/// /// Runs a connection with a stack of the caller's.
/// async fn serve<IO>(io: IO, stack: impl PeerService, peers: &Peers) -> Result<(), Error>
/// where
///     IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
/// {
///     let info = connection::ConnectionInfo::inbound();
///     connection::serve(io, stack, peers, info).await.map(drop)
/// }
/// # let peers = Peers::new(coalescent::Config::default());
/// # let (io, _) = tokio::io::duplex(64);
/// # drop(serve(io, peers.inbox(), &peers));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle a peer's frames",
    label = "not a `Service<Frame, Response = Reply>` that can run in a task of its own",
    note = "its errors must be `Into<BoxError>`, and it and its future `Send + 'static`"
)]
pub trait PeerService:
    Service<Frame, Response = Reply, Error: Into<BoxError>, Future: Send + 'static> + Send + 'static
{
}

impl<S> PeerService for S where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>, Future: Send + 'static>
        + Send
        + 'static
{
}

/// A layer, or a stack of layers, that can be applied to the [`Inbox`] of each peer.
///
/// This is an alias for the bounds of such a layer. It is implemented for every type that satisfies
/// them; name it only in bounds of your own.
///
/// ```
/// use coalescent::{App, Error, Mesh, PeerLayer};
///
/// /// Starts any app of this program.
/// async fn start<L: PeerLayer>(app: App<L>) -> Result<Mesh, Error> {
///     app.network("chess").min_peers(1).listen("127.0.0.1:0").await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let mesh = start(App::new()).await?;
/// assert_eq!(mesh.peers().config().network, "chess");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stack of layers that fits a peer",
    label = "does not make a `Service<Frame, Response = Reply>` of the `Inbox`",
    note = "each layer's service must take a `Frame` and answer with a `Reply`; look at the layer added last before this line first"
)]
pub trait PeerLayer: Layer<Inbox, Service: PeerService> + Send + Sync + 'static {}

impl<L> PeerLayer for L where L: Layer<Inbox, Service: PeerService> + Send + Sync + 'static {}

/// A layer, whatever its service does: what [`AppExt::with`](crate::AppExt::with) takes besides a
/// plugin.
///
/// This is an alias for the bounds of such a layer. It is implemented for every type that satisfies
/// them; name it only in bounds of your own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no layer",
    label = "not a layer",
    note = "a plugin that is no layer is registered with `.plugin(..)` instead of `.with(..)`",
    note = "a router whose handlers need a state must be given it first, with `.with_state(..)`"
)]
pub trait AnyLayer: Layer<Inbox> {}

// The message is that of this trait, not of `Layer`.
#[diagnostic::do_not_recommend]
impl<L> AnyLayer for L where L: Layer<Inbox> {}

/// A service that can be cloned, for layers that clone their inner service. SmartRelay, for one,
/// does so to give back a permit that the service holds since it was ready.
///
/// This is an alias for `Clone`, with a hint for services that are not. Use it as the bound of an
/// inner service that a layer of your own clones.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Clone`, which a layer outside of it needs",
    label = "has a layer whose service is not `Clone` inside of one that needs it",
    note = "a service is `Clone` if those inside of it are, and one of your own if you derive it; \
            tower's `RateLimit` is not",
    note = "put tower's `BufferLayer` directly outside of the one that is not, \
            `.layer(BufferLayer::new(64)).layer(..)`, or move that one outside of the layers that \
            need it: `SmartRelay`, `Courier`, `Validate`, `Signed`, a router, `from_fn`"
)]
pub trait CloneService: Clone {}

#[diagnostic::do_not_recommend]
impl<S> CloneService for S where S: Clone {}
