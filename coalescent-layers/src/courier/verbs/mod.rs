//! The verbs that the courier adds to a mesh and to a peer.

mod mesh;
mod peer;

use bytes::Bytes;
use coalescent_core::{Error, Message, Peers};
use serde::Serialize;

pub use self::mesh::MeshExt;
pub use self::peer::PeerExt;

/// Encodes a message of type `kind` with the node's codec.
fn encode_body<T>(peers: &Peers, kind: &str, body: &T) -> Result<Bytes, Error>
where
    T: Serialize + ?Sized,
{
    let payload = peers.codec()?.encode_body(kind, body);
    payload.map_err(Error::unencodable)
}

/// Encodes a message with the node's codec.
fn encode(peers: &Peers, message: &Message) -> Result<Bytes, Error> {
    let payload = peers.codec()?.encode(message);
    payload.map_err(Error::unencodable)
}
