//! Two nodes in memory, and a stand-in for the courier.

use std::sync::Arc;

use bytes::Bytes;
use coalescent_core::codec::Codec;
use coalescent_core::transport::Memory;
use coalescent_core::wire::Kind;
use coalescent_core::{
    AnyLayer, App, BoxError, Error, Event, Events, Frame, Mesh, Message, Peer, PeerLayer, Plugin,
    Reply, test_util,
};
use coalescent_router::HandlerFuture;
use coalescent_router::middleware::{Next, from_fn};

/// Parses messages on the way in, and writes them on the way out.
pub async fn courier(mut frame: Frame, next: Next) -> Result<Reply, BoxError> {
    let codec = Codec::msgpack();
    frame.set_message(codec.decode(&frame.payload_bytes())?);
    Ok(match next.run(frame).await? {
        Reply::Message(message) => Reply::Payload(codec.encode(&message)?),
        reply => reply,
    })
}

pub fn encode(message: &Message) -> Bytes {
    Codec::msgpack().encode(message).unwrap()
}

/// A node with a router behind a courier, and a node that talks to it.
pub struct Pair {
    /// The node with the router.
    pub server: Mesh,
    /// The node without layers.
    pub client: Mesh,
    /// The server, as the client sees it.
    pub peer: Peer,
    pub events: Events,
}

impl Pair {
    pub async fn new<L>(router: L) -> Self
    where
        L: Plugin + AnyLayer,
        tower_layer::Stack<L, CourierStack>: PeerLayer,
    {
        use coalescent_core::AppExt;
        let app = App::new().layer(courier_layer()).with(router);
        Self::start(app).await
    }

    pub async fn start<L: PeerLayer>(app: App<L>) -> Self {
        Self::start_both(app, App::new()).await
    }

    pub async fn start_both<L: PeerLayer, M: PeerLayer>(app: App<L>, client: App<M>) -> Self {
        let network = Memory::new();
        let server = app.transport(network.clone()).listen("server:1").await;
        let server = server.unwrap();
        let client = client.transport(network).start().await.unwrap();
        let peer = client.connect("server:1").await.unwrap();
        let events = server.events();
        Self {
            server,
            client,
            peer,
            events,
        }
    }

    /// Asks the server, and waits for its answer.
    pub async fn ask(&self, message: Message) -> Result<Message, Error> {
        let reply = self.peer.request_payload(encode(&message)).await?;
        Ok(Codec::msgpack().decode(&reply).unwrap())
    }

    /// Asks the server for the text in its answer's body.
    pub async fn ask_text(&self, kind: &str) -> String {
        let reply = self.ask(Message::new(kind, &())).await.unwrap();
        reply.body().unwrap()
    }

    /// The next error that the server reports.
    pub async fn error(&mut self) -> Arc<Error> {
        loop {
            if let Event::Error { error, .. } = self.events.next().await.unwrap() {
                return error;
            }
        }
    }
}

type CourierFn = fn(Frame, Next) -> HandlerFuture;
type CourierLayer = coalescent_router::middleware::FromFnLayer<CourierFn, (), (Frame,)>;
pub type CourierStack = tower_layer::Stack<CourierLayer, tower_layer::Identity>;

pub fn courier_layer() -> CourierLayer {
    from_fn(|frame, next| Box::pin(courier(frame, next)))
}

/// A frame with a message, as the courier passes it on.
pub fn frame(kind: &str) -> Frame {
    frame_of(Message::new(kind, &()))
}

pub fn frame_of(message: Message) -> Frame {
    let mut frame = test_util::frame(Kind::Data, encode(&message));
    frame.set_message(message);
    frame
}
