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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stack of layers that fits a peer",
    label = "does not make a `Service<Frame, Response = Reply>` of the `Inbox`",
    note = "each layer's service must take a `Frame` and answer with a `Reply`; look at the layer added last before this line first"
)]
pub trait PeerLayer: Layer<Inbox, Service: PeerService> + Send + Sync + 'static {}

impl<L> PeerLayer for L where L: Layer<Inbox, Service: PeerService> + Send + Sync + 'static {}
