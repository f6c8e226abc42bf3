//! Brings a connection from the handshake to a place in the roster.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use super::driver::Connection;
use super::handshake::{Introduced, dismiss, introduce, refuse};
use super::membership::Membership;
use super::standby::{Outcome, Waiting};
use super::{ConnectionInfo, clock};
use crate::error::Error;
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::seat::Seat;
use crate::node::peer::{Introduction, Peer};
use crate::node::standing::MAX_STANDING_TIME;
use crate::node::{Joined, Node, Refusal, Standing};
use crate::reason::Goodbye;
use crate::transport::Direction;

/// The result of a handshake that did not fail.
#[derive(Debug)]
pub(crate) enum Established<IO> {
    /// The connection has a peer, and can be run.
    Connected(Connection<IO>),
    /// The other end is this node itself, as far as can be told.
    Myself,
    /// The other end is, or claims to be, this peer, which stays connected by another connection.
    /// This connection has ended.
    Already(Peer),
}

/// How a connection entered the roster.
enum Entry {
    /// As the first connection of a peer.
    New(Peer),
    /// Beside, or in place of, another connection to the same peer.
    Joined(Joined),
    /// Not at all: the other side gave this connection up, since this peer is connected.
    Left(Peer),
}

/// Why a connection did not enter the roster.
enum NoEntry {
    /// This node refuses the connection, because of this peer if there is one.
    Refused(Refusal, Option<Peer>),
    Failed(Error),
}

impl From<Refusal> for NoEntry {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, None)
    }
}

/// Performs the handshake over `io`, and enters the roster of `node`. The connection is counted by
/// `seat`, which may refuse it after its introduction.
///
/// # Errors
///
/// If the handshake fails, or one side refuses the other.
pub(crate) async fn establish<IO>(
    io: IO,
    node: &Arc<Node>,
    info: ConnectionInfo,
    seat: Option<Arc<dyn Seat>>,
) -> Result<Established<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = node.config();
    let wire = info.wire.clone().unwrap_or_else(|| config.wire.clone());
    let origin = info.origin();
    let direction = origin.direction;
    let introduced = introduce(
        io,
        node,
        wire,
        origin,
        info.key,
        info.listen,
        seat.as_deref(),
    );
    let introduced = introduced.await?;
    let Introduced {
        mut io,
        mut codec,
        mut buf,
        mut block,
        intro,
    } = introduced;
    let handle = Arc::new(ConnectionHandle::new(node.next_link(), direction, seat));
    let entry = {
        let mut waiting = Waiting {
            io: &mut io,
            codec: &mut codec,
            buf: &mut buf,
            block: &mut block,
        };
        enter(&mut waiting, node, &intro, &handle).await
    };
    let (peer, retired) = match entry {
        Ok(Entry::New(peer)) => (peer, false),
        Ok(Entry::Joined(Joined::TakesOver(peer) | Joined::Beside(peer))) => (peer, false),
        Ok(Entry::Joined(Joined::Yields(peer))) => (peer, true),
        Ok(Entry::Left(peer)) => return Ok(Established::Already(peer)),
        Err(NoEntry::Failed(error)) => return Err(error),
        Err(NoEntry::Refused(refusal, connected)) => {
            if refusal == Refusal::Full {
                dismiss(&mut io, &mut codec, &Goodbye::BUSY);
            } else {
                refuse(&mut io, &mut codec, refusal.words()).await;
            }
            return refused(refusal, connected, direction);
        }
    };
    Ok(Established::Connected(Connection {
        io,
        codec,
        buf,
        first: block,
        membership: Membership::new(peer, Arc::clone(&handle)),
        handle,
        retired,
    }))
}

/// Returns the result for a connection that this node has refused.
fn refused<IO>(
    refusal: Refusal,
    connected: Option<Peer>,
    direction: Direction,
) -> Result<Established<IO>, Error> {
    match (refusal, connected) {
        (Refusal::Myself, _) => Ok(Established::Myself),
        (_, Some(peer)) if direction == Direction::Outbound => Ok(Established::Already(peer)),
        _ => Err(Error::refused(refusal.words())),
    }
}

/// Enters the roster, once no other connection has the same peer, or claims to.
async fn enter<IO>(
    waiting: &mut Waiting<'_, IO>,
    node: &Arc<Node>,
    intro: &Introduction,
    handle: &Arc<ConnectionHandle>,
) -> Result<Entry, NoEntry>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let since = clock::now();
    loop {
        let Some(standing) = node.look_up(intro, handle)? else {
            let taken = handle.take_seat(node.role(&intro.channels));
            taken.map_err(|_| Refusal::Full)?;
            match node.join(intro, handle)? {
                Some(peer) => return Ok(Entry::New(peer)),
                None => continue,
            }
        };
        let refused = |peer: &Peer| NoEntry::Refused(Refusal::AlreadyConnected, Some(peer.clone()));
        let waits = timeout_at(since + MAX_STANDING_TIME, waiting.run(&standing, since));
        match waits.await {
            Ok(Ok(Outcome::Decided(Standing::Free | Standing::Wait(_)))) => {}
            Ok(Ok(Outcome::Decided(Standing::Joined(joined)))) => {
                let role = standing.peer().stage().role();
                if handle.take_over_seat(role).is_err() {
                    standing.give_back(joined);
                    return Err(Refusal::Full.into());
                }
                return Ok(Entry::Joined(joined));
            }
            Ok(Ok(Outcome::Left)) => return Ok(Entry::Left(standing.peer().clone())),
            Ok(Err(error)) => return Err(NoEntry::Failed(error)),
            Ok(Ok(Outcome::Decided(Standing::Refused))) | Err(_) => {
                return Err(refused(standing.peer()));
            }
        }
    }
}
