//! Accepts the peers that dial this endpoint.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use iroh::EndpointId;
use iroh::endpoint::{Incoming, IncomingAddr};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::error::closed;
use crate::opening::{OPENING_TIMEOUT, Opening};
use crate::stream::Stream;

/// How many peers may be in the handshake of QUIC at a time. The oldest gives way to a newcomer.
pub const MAX_OPENING: usize = 128;

/// How many handshakes make newcomers prove first that they are where their packets come from, with
/// one more round trip.
pub const CROWDED: usize = 16;

/// A peer that has proved its key, and opened its stream.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    pub(crate) key: EndpointId,
    /// Its address, unless it came through a relay.
    pub(crate) addr: Option<SocketAddr>,
}

/// Accepts peers at an endpoint.
pub(crate) struct Accepting {
    opening: Opening,
    handshakes: JoinSet<io::Result<Arrival>>,
    /// The handshakes from the oldest on.
    ages: VecDeque<AbortHandle>,
}

impl Accepting {
    pub(crate) fn new(opening: Opening) -> Self {
        Self {
            opening,
            handshakes: JoinSet::new(),
            ages: VecDeque::new(),
        }
    }

    /// Waits for the next peer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: handshakes go on in tasks of their own, which end with this.
    pub(crate) async fn next(&mut self) -> io::Result<Arrival> {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    // Whoever fails in the handshake has nobody who could be told.
                    if let Ok(Ok(arrival)) = done {
                        return Ok(arrival);
                    }
                }
                incoming = self.opening.endpoint().accept() => match incoming {
                    Some(incoming) => self.begin(incoming),
                    None => return Err(io::Error::new(io::ErrorKind::NotConnected, closed())),
                },
            }
        }
    }

    /// Begins the handshake of a newcomer.
    fn begin(&mut self, incoming: Incoming) {
        self.ages.retain(|handshake| !handshake.is_finished());
        if self.ages.len() >= CROWDED && !incoming.remote_addr_validated() {
            // It comes back with the proof, or it was nobody.
            let _ = incoming.retry();
            return;
        }
        if self.ages.len() >= MAX_OPENING
            && let Some(oldest) = self.ages.pop_front()
        {
            oldest.abort();
        }
        let opening = self.opening.clone();
        let handshake = async move {
            let addr = match incoming.remote_addr() {
                IncomingAddr::Ip(addr) => Some(addr),
                _ => None,
            };
            let accepting = opening.accept(incoming);
            let (connection, stream) = timeout(OPENING_TIMEOUT, accepting).await??;
            Ok(Arrival {
                stream,
                key: connection.remote_id(),
                addr,
            })
        };
        self.ages.push_back(self.handshakes.spawn(handshake));
    }
}
