//! A peer that speaks the native wire by hand, frame by frame.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind, NativeCodec, NodeId, Packet, Status};
use coalescent_core::{Mesh, Peer, Wire};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::codec::{Encoder, Framed};

use crate::soon;

/// A peer that speaks the native wire by hand.
pub struct ByHand<IO> {
    pub framed: Framed<IO, NativeCodec>,
    pub node: NodeId,
}

pub fn hello(node: NodeId, net: &str) -> Bytes {
    let hello = Hello::new(node, net).agent("by hand");
    hello.encode().expect("a small hello")
}

pub fn packet(kind: Kind, payload: impl Into<Bytes>) -> Packet {
    Packet::new(kind, payload)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ByHand<IO> {
    /// Wraps a connection on which nothing was said.
    pub fn new(io: IO) -> Self {
        let mut codec = NativeCodec::new(1024 * 1024);
        codec.established();
        Self {
            framed: Framed::new(io, codec),
            node: NodeId::random(),
        }
    }

    /// Introduces itself, and waits for the other side's introduction.
    pub async fn connect(io: IO) -> Self {
        let mut peer = Self::new(io);
        let hello = hello(peer.node, "");
        peer.send(Kind::Hello, hello).await;
        assert_eq!(peer.recv().await.expect("a hello").kind, Kind::Hello);
        peer
    }

    pub async fn send(&mut self, kind: Kind, payload: impl Into<Bytes>) {
        self.framed
            .send(packet(kind, payload))
            .await
            .expect("a peer that listens");
    }

    /// Receives the next frame; `None` when the other side has closed.
    pub async fn recv(&mut self) -> Option<Packet> {
        soon("a frame", self.framed.next())
            .await
            .and_then(Result::ok)
    }

    /// Receives the next frame that is no PING.
    pub async fn recv_frame(&mut self) -> Option<Packet> {
        loop {
            let packet = self.recv().await?;
            if packet.kind != Kind::Ping {
                return Some(packet);
            }
        }
    }

    /// Expects a BYE, and returns its reason.
    pub async fn expect_bye(&mut self) -> String {
        let packet = self.recv_frame().await.expect("a BYE before the end");
        assert_eq!(packet.kind, Kind::Bye);
        assert!(
            self.recv_frame().await.is_none(),
            "nothing comes after a BYE"
        );
        String::from_utf8(packet.payload.to_vec()).expect("UTF-8")
    }
}

/// Joins a mesh over a connection in memory that holds `pipe` bytes in each direction.
pub async fn join(mesh: &Mesh, pipe: usize) -> ByHand<DuplexStream> {
    join_as(mesh, pipe).await.0
}

/// Joins a mesh as [`join`] does, and returns the mesh's handle to this peer too.
pub async fn join_as(mesh: &Mesh, pipe: usize) -> (ByHand<DuplexStream>, Peer) {
    let (near, far) = tokio::io::duplex(pipe);
    let (by_hand, adopted) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    (by_hand, adopted.expect("a peer"))
}

/// As [`join`], on a wire that has no introduction.
pub async fn join_wire(mesh: &Mesh, wire: Wire, pipe: usize) -> DuplexStream {
    let (near, far) = tokio::io::duplex(pipe);
    mesh.adopt(far, ConnectionInfo::inbound().wire(wire))
        .await
        .expect("a peer");
    near
}

/// Writes `bytes` over and over, at most `times`, until the other side reads no more. Returns how
/// often they went through. The clock must be paused: it moves on as soon as nothing else does.
pub async fn pour(io: &mut DuplexStream, bytes: &[u8], times: usize) -> usize {
    for done in 0..times {
        if tokio::time::timeout(Duration::from_millis(100), io.write_all(bytes))
            .await
            .is_err()
        {
            return done;
        }
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    times
}

/// Encodes frames as they stand on the native wire.
pub fn on_the_wire(packets: &[Packet]) -> BytesMut {
    let mut codec = NativeCodec::new(1024 * 1024);
    codec.established();
    let mut bytes = BytesMut::new();
    for packet in packets {
        codec
            .encode(packet.clone(), &mut bytes)
            .expect("a frame of the native wire");
    }
    bytes
}

pub fn ok() -> Kind {
    Kind::Reply {
        id: 1,
        status: Status::Ok,
    }
}
