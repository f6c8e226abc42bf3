use std::convert::Infallible;

use coalescent_core::{Frame, Mesh, Peer, Peers};

use super::rejection::MeshRejection;
use super::{FromFrameParts, OptionalFromFrameParts};

/// Extracts the peer that delivered the frame to this node. With relays between, it is not the
/// author.
impl<S: Sync> FromFrameParts<S> for Peer {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, Infallible> {
        Ok(frame.peer().clone())
    }
}

/// Extracts the connected peers of this node.
impl<S: Sync> FromFrameParts<S> for Peers {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, Infallible> {
        Ok(frame.peer().peers())
    }
}

/// Extracts the running app, which keeps running at least until the handler has finished.
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
