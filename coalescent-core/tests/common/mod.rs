//! What the tests of the core share: a peer made of bytes, and small layers.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind, NativeCodec, NodeId, Packet, Status};
use coalescent_core::{Flow, Frame, Mesh, Relay, Reply, Wire};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::codec::Framed;
use tower_layer::Layer;
use tower_service::Service;

/// How long a condition may take before a test fails. Only failures take this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for what must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A peer that speaks the native wire by hand.
pub(crate) struct ByHand<IO> {
    pub(crate) framed: Framed<IO, NativeCodec>,
    pub(crate) node: NodeId,
}

pub(crate) fn hello(node: NodeId, net: &str) -> Bytes {
    let hello = Hello {
        node,
        net: net.into(),
        agent: "by hand".into(),
        listen: None,
        max: None,
    };
    hello.encode().expect("a small hello")
}

pub(crate) fn packet(kind: Kind, payload: impl Into<Bytes>) -> Packet {
    let ttl = if matches!(kind, Kind::Broadcast { .. }) {
        32
    } else {
        0
    };
    Packet {
        kind,
        ttl,
        payload: payload.into(),
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ByHand<IO> {
    /// Wraps a connection on which nothing was said.
    pub(crate) fn new(io: IO) -> Self {
        let mut codec = NativeCodec::new(1024 * 1024);
        codec.established();
        Self {
            framed: Framed::new(io, codec),
            node: NodeId::random(),
        }
    }

    /// Introduces itself, and waits for the other side's introduction.
    pub(crate) async fn connect(io: IO) -> Self {
        let mut peer = Self::new(io);
        let hello = hello(peer.node, "");
        peer.send(Kind::Hello, hello).await;
        assert_eq!(peer.recv().await.expect("a hello").kind, Kind::Hello);
        peer
    }

    pub(crate) async fn send(&mut self, kind: Kind, payload: impl Into<Bytes>) {
        self.framed
            .send(packet(kind, payload))
            .await
            .expect("a peer that listens");
    }

    /// Receives the next frame; `None` when the other side has closed.
    pub(crate) async fn recv(&mut self) -> Option<Packet> {
        soon("a frame", self.framed.next())
            .await
            .and_then(Result::ok)
    }

    /// Receives the next frame that is no PING.
    pub(crate) async fn recv_frame(&mut self) -> Option<Packet> {
        loop {
            let packet = self.recv().await?;
            if packet.kind != Kind::Ping {
                return Some(packet);
            }
        }
    }

    /// Expects a BYE, and returns its reason.
    pub(crate) async fn expect_bye(&mut self) -> String {
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
pub(crate) async fn join(mesh: &Mesh, pipe: usize) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(pipe);
    let (peer, adopted) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    adopted.expect("a peer");
    peer
}

/// As [`join`], on a wire that has no introduction.
pub(crate) async fn join_wire(mesh: &Mesh, wire: Wire, pipe: usize) -> DuplexStream {
    let (near, far) = tokio::io::duplex(pipe);
    mesh.adopt(far, ConnectionInfo::inbound().wire(wire))
        .await
        .expect("a peer");
    near
}

/// Writes `bytes` over and over, at most `times`, until the other side reads no more. Returns how
/// often they went through. The clock must be paused: it moves on as soon as nothing else does.
pub(crate) async fn pour(io: &mut DuplexStream, bytes: &[u8], times: usize) -> usize {
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
pub(crate) fn on_the_wire(packets: &[Packet]) -> BytesMut {
    use tokio_util::codec::Encoder;
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

pub(crate) fn ok() -> Kind {
    Kind::Reply {
        id: 1,
        status: Status::Ok,
    }
}

/// A relay that knows no duplicates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayLayer(pub(crate) Flow);

impl coalescent_core::Plugin for RelayLayer {}

impl<S> Layer<S> for RelayLayer {
    type Service = RelayService<S>;

    fn layer(&self, inner: S) -> RelayService<S> {
        RelayService {
            flow: self.0,
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RelayService<S> {
    flow: Flow,
    inner: S,
}

impl<S: Service<Frame>> Service<Frame> for RelayService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> S::Future {
        frame.relay(Relay {
            flow: self.flow,
            direct: false,
        });
        self.inner.call(frame)
    }
}

type Handled = Pin<Box<dyn Future<Output = Result<Reply, coalescent_core::BoxError>> + Send>>;
type Handler = Arc<dyn Fn(Frame) -> Handled + Send + Sync>;

/// A stack that is one function, in the place of the inbox.
#[derive(Clone)]
pub(crate) struct Handle(Handler);

pub(crate) fn handle<F, Fut>(handler: F) -> Handle
where
    F: Fn(Frame) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, coalescent_core::BoxError>> + Send + 'static,
{
    Handle(Arc::new(move |frame| Box::pin(handler(frame))))
}

impl coalescent_core::Plugin for Handle {}

impl<S> Layer<S> for Handle {
    type Service = Self;

    fn layer(&self, _inner: S) -> Self {
        self.clone()
    }
}

impl Service<Frame> for Handle {
    type Response = Reply;
    type Error = coalescent_core::BoxError;
    type Future = Handled;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, frame: Frame) -> Handled {
        (self.0)(frame)
    }
}
