//! A bridge's way into its mesh: it is a peer of its own node, on a connection within the program.
//!
//! So it hears what every peer hears, and what it says has a nonce that it chooses, passes the
//! node's stack, and is relayed like what any peer says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind, NativeCodec, Packet, Status, WireError};
use coalescent_core::{Error, Mesh, NodeId, Peer, Wire};
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_util::codec::Framed;

use crate::engine::Carried;

/// Bytes on their way between the node and the bridge, in each direction.
const PIPE: usize = 64 * 1024;

/// The ttl of what enters a mesh, which the node lowers to its own if that is smaller.
const TTL: u8 = 32;

/// The number of answers that may wait for room. The node asks with PING one after the other; more
/// than these wait in the pipe.
const OWED: usize = 16;

#[derive(Debug)]
pub(crate) struct Door {
    peer: Peer,
    framed: Framed<DuplexStream, NativeCodec>,
    /// Answers that are to be written.
    owed: VecDeque<Packet>,
}

impl Door {
    /// Connects to the node of `mesh`.
    pub(crate) async fn open(mesh: &Mesh) -> Result<Self, Error> {
        let config = mesh.peers().config();
        let (near, far) = tokio::io::duplex(PIPE);
        let mut framed = Framed::new(near, NativeCodec::new(config.max_frame));
        let mut hello = Hello::new(NodeId::random(), config.network.clone());
        hello.agent = concat!("coalescent-bridge/", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = Packet {
            kind: Kind::Hello,
            ttl: 0,
            payload: hello.encode().map_err(|error| plugin(&error))?,
        };
        let info = ConnectionInfo::inbound().wire(Wire::native());
        let introduced = async {
            framed.send(hello).await.map_err(|error| plugin(&error))?;
            match framed.next().await {
                Some(Ok(packet)) if packet.kind == Kind::Hello => Ok(()),
                Some(Err(error)) => Err(plugin(&error)),
                _ => Err(Error::plugin(
                    "the node does not take the bridge for a peer",
                )),
            }
        };
        let (peer, introduced) = tokio::join!(mesh.adopt(far, info), introduced);
        let peer = peer?;
        introduced?;
        framed.codec_mut().established();
        Ok(Self {
            peer,
            framed,
            owed: VecDeque::new(),
        })
    }

    /// Returns the bridge as its node sees it.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Writes the answers that are owed, as far as there is room.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while !self.owed.is_empty() {
            ready!(self.framed.poll_ready_unpin(cx))?;
            if let Some(packet) = self.owed.pop_front() {
                self.framed.start_send_unpin(packet)?;
            }
        }
        self.framed.poll_flush_unpin(cx)
    }
}

fn plugin(error: &dyn std::error::Error) -> Error {
    Error::plugin(format!("the bridge cannot speak to its node: {error}"))
}

/// What is broadcast in the mesh, until the connection ends.
impl Stream for Door {
    type Item = Carried;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Carried>> {
        let door = &mut *self;
        loop {
            if door.poll_owed(cx).is_pending() && door.owed.len() >= OWED {
                return Poll::Pending;
            }
            let Some(Ok(packet)) = ready!(door.framed.poll_next_unpin(cx)) else {
                return Poll::Ready(None);
            };
            let answer = match packet.kind {
                Kind::Broadcast { nonce } => {
                    return Poll::Ready(Some(Carried {
                        nonce,
                        payload: packet.payload,
                    }));
                }
                Kind::Ping => Kind::Pong,
                Kind::Request { id } => Kind::Reply {
                    id,
                    status: Status::NoAnswer,
                },
                _ => continue,
            };
            let payload = match answer {
                Kind::Pong => packet.payload,
                _ => bytes::Bytes::new(),
            };
            door.owed.push_back(Packet {
                kind: answer,
                ttl: 0,
                payload,
            });
        }
    }
}

/// Broadcasts. An error of `start_send` is about that message alone: it is too large.
impl Sink<Carried> for Door {
    type Error = WireError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.framed.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Carried) -> Result<(), WireError> {
        self.framed.start_send_unpin(Packet {
            kind: Kind::Broadcast {
                nonce: message.nonce,
            },
            ttl: TTL,
            payload: message.payload,
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.framed.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.framed.poll_close_unpin(cx)
    }
}
