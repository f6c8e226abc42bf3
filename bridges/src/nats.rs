//! NATS as the engine of a bridge.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use async_nats::message::OutboundMessage;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Subscriber, ToServerAddrs};
use bytes::Bytes;
use coalescent_core::BoxError;
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{FutureExt, SinkExt, StreamExt};

use crate::{Heard, hash};

/// The header of a message that holds its nonce, as 16 hex digits. A JetStream stream on the
/// subject drops copies by it.
pub const NONCE_HEADER: &str = "Nats-Msg-Id";

/// How many messages of the subject wait for the bridge at most; the client drops what comes then.
/// As the bridge waits for its mesh for [`GRACE`](crate::GRACE) alone, they are about as many as
/// arrive in that time, of at most 1 MiB each if the server has its default.
pub const SUBSCRIBED: usize = 16_384;

/// A subject of NATS, as the other side of a [`Bridge`](crate::Bridge).
///
/// A message that comes with another id in [`NONCE_HEADER`] gets a nonce made of that.
///
/// ```no_run
/// use async_nats::ConnectOptions;
/// use coalescent::prelude::*;
/// use coalescent_bridge::{Bridge, Nats};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let options = ConnectOptions::new().client_capacity(4096);
/// let nats = Nats::connect(options, "nats://127.0.0.1:4222", "prices").await?;
/// let mesh = App::new().with(SmartRelay::new()).plugin(Bridge::new(nats)).start().await?;
/// # drop(mesh);
/// # Ok(())
/// # }
/// ```
pub struct Nats {
    client: Client,
    subject: async_nats::Subject,
    messages: Subscriber,
    missed: Arc<AtomicU64>,
    closing: Option<Closing>,
}

type Closing = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

impl Nats {
    /// Connects to `servers` and subscribes to `subject`, which must not have wildcards.
    ///
    /// `options` say how, as for any other client. Two of them are set here: the callback for
    /// events, and the capacity of subscriptions, [`SUBSCRIBED`]. What is said while the server is
    /// away waits in the client, as many messages as
    /// [`client_capacity`](ConnectOptions::client_capacity) says, and then is dropped and counted.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or does not let this client in, or the subject is none.
    pub async fn connect(
        options: ConnectOptions,
        servers: impl ToServerAddrs,
        subject: impl Into<String>,
    ) -> Result<Self, BoxError> {
        let subject = subject.into();
        if subject.contains(['*', '>']) {
            return Err(format!("{subject}: name one subject, without * and >").into());
        }
        let missed = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&missed);
        let options = options.subscription_capacity(SUBSCRIBED);
        let options = options.event_callback(move |event| {
            if matches!(event, Event::SlowConsumer(_)) {
                counts.fetch_add(1, Relaxed);
            }
            std::future::ready(())
        });
        let client = options.connect(servers).await?;
        Ok(Self {
            messages: client.subscribe(subject.clone()).await?,
            client,
            subject: subject.into(),
            missed,
            closing: None,
        })
    }

    /// Returns the client, which can be used for other things too.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Stream for Nats {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        match self.missed.swap(0, Relaxed) {
            0 => self
                .messages
                .poll_next_unpin(cx)
                .map(|next| next.map(heard)),
            missed => Poll::Ready(Some(Heard::Missed(missed))),
        }
    }
}

fn heard(message: Message) -> Heard {
    let id = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(NONCE_HEADER));
    let nonce = id.map(|id| match u64::from_str_radix(id.as_str(), 16) {
        Ok(nonce) if id.as_str().len() == 16 => nonce,
        _ => hash(id.as_str().as_bytes()),
    });
    Heard::Message(nonce, message.payload)
}

impl Sink<(u64, Bytes)> for Nats {
    type Error = BoxError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_ready_unpin(cx).map_err(Into::into)
    }

    fn start_send(
        mut self: Pin<&mut Self>,
        (nonce, payload): (u64, Bytes),
    ) -> Result<(), BoxError> {
        let mut headers = HeaderMap::new();
        headers.insert(NONCE_HEADER, format!("{nonce:016x}"));
        let message = OutboundMessage {
            subject: self.subject.clone(),
            reply: None,
            payload,
            headers: Some(headers),
        };
        self.client.start_send_unpin(message).map_err(Into::into)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_flush_unpin(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let client = self.client.clone();
        let flush = async move { client.flush().await.map_err(Into::into) };
        self.closing
            .get_or_insert_with(|| Box::pin(flush))
            .poll_unpin(cx)
    }
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}
