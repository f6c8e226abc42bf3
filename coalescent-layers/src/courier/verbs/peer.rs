//! Sending messages to one peer.

use coalescent_core::{Ask, Error, Message, MessageType, Peer};
use serde::Serialize;

use super::{encode, encode_body};

/// Sends messages to one peer.
///
/// Every method fails with [`is_no_courier`](Error::is_no_courier) if the app has no
/// [`Courier`](crate::Courier), and with [`is_encode`](Error::is_encode) if the body cannot be
/// serialized or the message does not fit the peer's wire. A value is serialized when the method is
/// called, not when the returned future is first polled.
///
/// ```
/// use coalescent::{
///     App, AppExt, Courier, Error, Frame, Message, PeerExt, Reply, transport::Memory,
/// };
/// use tower::{layer::layer_fn, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let app = || App::new().transport(network.clone()).with(Courier::new());
/// // A router does this by message type.
/// let double = layer_fn(|_inner| {
///     service_fn(async |frame: Frame| {
///         let number: u64 = frame.message().ok_or_else(Error::no_courier)?.body()?;
///         let reply = Message::new("doubled", &(2 * number));
///         Ok::<_, coalescent::BoxError>(Reply::from(reply))
///     })
/// });
/// let alice = app().layer(double).listen("alice:1").await?;
/// let bob = app().start().await?;
/// let peer = bob.connect("alice:1").await?;
///
/// // A request waits for its reply; what is sent comes back, if at all, as another message.
/// let reply = peer.request("double", &21).await?;
/// assert_eq!((reply.kind(), reply.body()?), ("doubled", 42));
/// let mut reader = bob.reader();
/// peer.send("double", &4).await?;
/// let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!(frame.message().ok_or("no message")?.body::<u64>()?, 8);
/// # drop(alice);
/// # Ok(())
/// # }
/// ```
pub trait PeerExt: sealed::Sealed {
    /// Sends a message of type `kind` to this peer only, waiting for room in its outbox.
    ///
    /// Relays do not pass the message on. Success means that it is queued, not that it has arrived.
    /// A handler of a message of this very peer should return its answer instead, or use
    /// [`try_send`](PeerExt::try_send); see ["Answering"](Peer#answering).
    ///
    /// # Errors
    ///
    /// As listed for [`PeerExt`], and [`is_closed`](Error::is_closed) if the peer has disconnected.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing was queued.
    fn send<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<(), Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Sends a message whose type its body names; like [`send`](PeerExt::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](PeerExt::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](PeerExt::send).
    fn send_typed<T>(&self, body: &T) -> impl Future<Output = Result<(), Error>> + Send
    where
        T: Serialize + MessageType + ?Sized,
    {
        self.send(T::TYPE, body)
    }

    /// Sends a message built beforehand, for example one with headers; like
    /// [`send`](PeerExt::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](PeerExt::send).
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](PeerExt::send).
    fn send_message(&self, message: Message) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sends a message of type `kind` to this peer only, without waiting.
    ///
    /// # Errors
    ///
    /// As for [`send`](PeerExt::send), and [`is_full`](Error::is_full) if the outbox has no room.
    fn try_send<T>(&self, kind: &str, body: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized;

    /// Sends a message whose type its body names, without waiting; like
    /// [`try_send`](PeerExt::try_send).
    ///
    /// # Errors
    ///
    /// As for [`try_send`](PeerExt::try_send).
    fn try_send_typed<T>(&self, body: &T) -> Result<(), Error>
    where
        T: Serialize + MessageType + ?Sized,
    {
        self.try_send(T::TYPE, body)
    }

    /// Asks a question whose type its body names, and waits for the body of the answer, for at most
    /// [`Config::request_timeout`](coalescent_core::Config::request_timeout).
    ///
    /// ```
    /// # use coalescent::{
    /// #     App, AppExt, Courier, Error, Frame, Message, PeerExt, Reply, message_type,
    /// # };
    /// # use coalescent::transport::Memory;
    /// # use serde::{Deserialize, Serialize};
    /// # use tower::{layer::layer_fn, service_fn};
    /// #[derive(Deserialize, Serialize)]
    /// struct Get {
    ///     key: String,
    /// }
    ///
    /// #[derive(Deserialize, Serialize)]
    /// struct Value {
    ///     value: u64,
    /// }
    ///
    /// message_type! { Get => "get" -> Value }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let network = Memory::new();
    /// # let app = || App::new().transport(network.clone()).with(Courier::new());
    /// # let answer = layer_fn(|_| service_fn(async |_: Frame| {
    /// #     Ok::<_, Error>(Reply::from(Message::new("value", &Value { value: 42 })))
    /// # }));
    /// # let alice = app().layer(answer).listen("alice:1").await?;
    /// # let bob = app().start().await?;
    /// # let peer = bob.connect("alice:1").await?;
    /// let Value { value } = peer.ask(&Get { key: "answer".to_owned() }).await?;
    /// assert_eq!(value, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`request`](PeerExt::request). Also [`is_decode`](Error::is_decode) if the body of
    /// the answer is not what [`Ask::Answer`] says.
    ///
    /// # Cancel safety
    ///
    /// As for [`request`](PeerExt::request).
    fn ask<T>(&self, question: &T) -> impl Future<Output = Result<T::Answer, Error>> + Send
    where
        T: Serialize + Ask + ?Sized,
    {
        let asked = self.request(T::TYPE, question);
        async move { asked.await?.body().map_err(Error::undecodable) }
    }

    /// Sends a message of type `kind` as a request and waits for the reply, for at most
    /// [`Config::request_timeout`](coalescent_core::Config::request_timeout).
    ///
    /// # Errors
    ///
    /// As listed for [`PeerExt`], the errors of [`Peer::request_payload`], and
    /// [`is_decode`](Error::is_decode) if the reply is not a message.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the peer is told that the request is
    /// cancelled.
    fn request<T>(
        &self,
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Message, Error>> + Send
    where
        T: Serialize + ?Sized;

    /// Sends a message built beforehand as a request; like [`request`](PeerExt::request).
    ///
    /// # Errors
    ///
    /// As for [`request`](PeerExt::request).
    ///
    /// # Cancel safety
    ///
    /// As for [`request`](PeerExt::request).
    fn request_message(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Message, Error>> + Send;
}

impl PeerExt for Peer {
    fn send<T>(&self, kind: &str, body: &T) -> impl Future<Output = Result<(), Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let payload = encode_body(&self.peers(), kind, body);
        async move { self.send_payload(payload?).await }
    }

    async fn send_message(&self, message: Message) -> Result<(), Error> {
        let payload = encode(&self.peers(), &message)?;
        self.send_payload(payload).await
    }

    fn try_send<T>(&self, kind: &str, body: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.try_send_payload(encode_body(&self.peers(), kind, body)?)
    }

    fn request<T>(
        &self,
        kind: &str,
        body: &T,
    ) -> impl Future<Output = Result<Message, Error>> + Send
    where
        T: Serialize + ?Sized,
    {
        let encoded = self.peers().codec().and_then(|codec| {
            let payload = codec.encode_body(kind, body).map_err(Error::unencodable)?;
            Ok((codec, payload))
        });
        async move {
            let (codec, payload) = encoded?;
            self.request_encoded(&codec, payload).await
        }
    }

    async fn request_message(&self, message: Message) -> Result<Message, Error> {
        let codec = self.peers().codec()?;
        let payload = codec.encode(&message).map_err(Error::unencodable)?;
        self.request_encoded(&codec, payload).await
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for coalescent_core::Peer {}
}
