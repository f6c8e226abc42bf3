//! NATS as the engine of a bridge.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Subscriber, ToServerAddrs};
use bytes::Bytes;
use coalescent_core::BoxError;
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use crate::engine::{Carried, Heard, Said};

/// The header of a message that holds its nonce, as 16 hex digits. A JetStream stream on the
/// subject drops copies by it.
pub const NONCE_HEADER: &str = "Nats-Msg-Id";

/// What a subject begins with on which bridges tell each other that they are there.
pub const NOTES: &str = "_coalescent.bridges.";

/// How many events of the client may wait. Events of one kind that come in a row wait as one.
const EVENTS: usize = 64;

/// A subject of NATS, as the other side of a [`Bridge`](crate::Bridge).
///
/// The account needs the right to publish and to subscribe to the subject itself and to
/// [`NOTES`] followed by it. Messages of a queue group, or of a stream, can be read beside it as
/// from any publisher.
#[derive(Debug)]
pub struct Nats {
    client: Client,
    subject: Subject,
    notes_subject: Subject,
    messages: Subscriber,
    notes: Subscriber,
    events: mpsc::Receiver<Event>,
    is_up: bool,
}

impl Nats {
    /// Connects to `servers` and subscribes to `subject`, which must not have wildcards.
    ///
    /// `options` say how, as for any other client: credentials, TLS, names. With
    /// [`retry_on_initial_connect`](ConnectOptions::retry_on_initial_connect) the server need not
    /// be there yet. Two of them are set here: a callback for events, and that the server gives
    /// back what this client says; do not set `no_echo`.
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
        let (send, events) = mpsc::channel(EVENTS);
        let options = options.event_callback(move |event| {
            let send = send.clone();
            async move {
                // If there is no room, an event waits that makes the bridge look.
                let _ = send.try_send(event);
            }
        });
        let client = options.connect(servers).await?;
        let notes_subject = format!("{NOTES}{subject}");
        Ok(Self {
            messages: client.subscribe(subject.clone()).await?,
            notes: client.subscribe(notes_subject.clone()).await?,
            client,
            subject: subject.into(),
            notes_subject: notes_subject.into(),
            events,
            is_up: false,
        })
    }

    /// Returns what an event of the client means, if it means anything.
    fn event(&mut self, event: &Event) -> Option<Heard> {
        match event {
            Event::SlowConsumer(_) => Some(Heard::Missed(1)),
            // A new connection, even if the end of the last one was not noticed.
            Event::Connected => {
                self.is_up = true;
                Some(Heard::Up)
            }
            Event::Disconnected if self.is_up => {
                self.is_up = false;
                Some(Heard::Down)
            }
            Event::ServerError(error) => {
                tracing::warn!(%error, subject = %self.subject, "NATS says");
                None
            }
            _ => None,
        }
    }
}

impl Stream for Nats {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        let nats = &mut *self;
        while let Poll::Ready(Some(event)) = nats.events.poll_recv(cx) {
            if let Some(heard) = nats.event(&event) {
                return Poll::Ready(Some(heard));
            }
        }
        if !nats.is_up && nats.client.connection_state() == State::Connected {
            // Its event came before anybody listened, or had no room.
            nats.is_up = true;
            return Poll::Ready(Some(Heard::Up));
        }
        if let Poll::Ready(note) = nats.notes.poll_next_unpin(cx) {
            return Poll::Ready(note.map(|note| Heard::Note(note.payload)));
        }
        nats.messages
            .poll_next_unpin(cx)
            .map(|message| message.map(heard))
    }
}

fn heard(message: Message) -> Heard {
    let nonce = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get(NONCE_HEADER))
        .filter(|value| value.as_str().len() == 16)
        .and_then(|value| u64::from_str_radix(value.as_str(), 16).ok());
    Heard::Message {
        nonce,
        payload: message.payload,
    }
}

impl Sink<Said> for Nats {
    type Error = BoxError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_ready_unpin(cx).map_err(Into::into)
    }

    fn start_send(mut self: Pin<&mut Self>, said: Said) -> Result<(), BoxError> {
        let message = match said {
            Said::Message(Carried { nonce, payload }) => {
                let mut headers = HeaderMap::new();
                headers.insert(NONCE_HEADER, format!("{nonce:016x}"));
                message(self.subject.clone(), payload, Some(headers))
            }
            Said::Note(note) => message(self.notes_subject.clone(), note, None),
        };
        self.client.start_send_unpin(message).map_err(Into::into)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_flush_unpin(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_close_unpin(cx).map_err(Into::into)
    }
}

fn message(subject: Subject, payload: Bytes, headers: Option<HeaderMap>) -> OutboundMessage {
    OutboundMessage {
        subject,
        reply: None,
        payload,
        headers,
    }
}
