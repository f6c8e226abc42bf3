//! Asks who is at the other end of a connection, without making it a peer.

use tokio::io::{AsyncRead, AsyncWrite};

use super::ConnectionInfo;
use super::handshake::{Introduced, introduce, refuse};
use crate::error::Error;
use crate::node::Node;
use crate::node::peer::Introduction;

/// What the other end is told after it has introduced itself.
const WORDS: &str = "only asked who is there";

/// Performs the handshake over `io`, says goodbye, and returns what the other end has said of
/// itself.
///
/// # Errors
///
/// If the handshake fails, or the other end refuses this node.
pub(crate) async fn probe<IO>(
    io: IO,
    node: &Node,
    info: ConnectionInfo,
) -> Result<Introduction, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let wire = info.wire.clone();
    let wire = wire.unwrap_or_else(|| node.config().wire.clone());
    let origin = info.origin();
    let Introduced {
        mut io,
        mut codec,
        intro,
        ..
    } = introduce(io, node, wire, origin, info.key, info.listen, None).await?;
    refuse(&mut io, &mut codec, WORDS).await;
    Ok(intro)
}
