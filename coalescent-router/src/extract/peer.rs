use std::convert::Infallible;

use coalescent_core::{Frame, Mesh, Peer, Peers};

use super::rejection::MeshRejection;
use super::{FromFrameParts, OptionalFromFrameParts};

/// The peer that sent the frame to this node. With relays in between, not its author.
impl<S: Sync> FromFrameParts<S> for Peer {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, Infallible> {
        Ok(frame.peer().clone())
    }
}

/// The connected peers of this node.
impl<S: Sync> FromFrameParts<S> for Peers {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, Infallible> {
        Ok(frame.peer().peers())
    }
}

/// The running app. It runs at least until the handler is done.
impl<S: Sync> FromFrameParts<S> for Mesh {
    type Rejection = MeshRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, MeshRejection> {
        frame.peer().mesh().ok_or_else(MeshRejection::new)
    }
}

impl<S: Sync> OptionalFromFrameParts<S> for Mesh {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(frame.peer().mesh())
    }
}
