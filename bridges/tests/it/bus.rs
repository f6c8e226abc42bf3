//! An engine in memory, for tests.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use coalescent_bridge::Heard;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::sync::mpsc;

use crate::support::count;

/// An engine without a server: whoever is connected hears what is said, also who says it. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(crate) struct Bus(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    listeners: Vec<mpsc::UnboundedSender<Heard>>,
    is_full: bool,
    waiting: Vec<Waker>,
    messages: Vec<(u64, Bytes)>,
}

impl Bus {
    pub(crate) fn engine(&self) -> OnBus {
        let (send, heard) = mpsc::unbounded_channel();
        self.0.lock().unwrap().listeners.push(send);
        let bus = self.clone();
        OnBus { bus, heard }
    }

    /// Makes engines wait for room, or gives it.
    pub(crate) fn set_full(&self, is_full: bool) {
        let mut inner = self.0.lock().unwrap();
        inner.is_full = is_full;
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// Publishes as somebody who is no bridge.
    pub(crate) fn publish(&self, nonce: Option<u64>, text: &str) {
        self.tell(&Heard::Message(
            nonce,
            Bytes::copy_from_slice(text.as_bytes()),
        ));
    }

    pub(crate) fn tell(&self, heard: &Heard) {
        let mut inner = self.0.lock().unwrap();
        inner
            .listeners
            .retain(|listener| listener.send(heard.clone()).is_ok());
    }

    /// Ends all engines.
    pub(crate) fn end(&self) {
        self.0.lock().unwrap().listeners.clear();
    }

    /// Returns how often each message was said by bridges.
    pub(crate) fn said(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, payload) in &self.0.lock().unwrap().messages {
            count(&mut counts, payload);
        }
        counts
    }

    /// Returns the nonce that `text` was said with.
    pub(crate) fn nonce(&self, text: &str) -> Option<u64> {
        let inner = self.0.lock().unwrap();
        let mut messages = inner.messages.iter();
        messages
            .find(|(_, payload)| payload == text)
            .map(|(nonce, _)| *nonce)
    }
}

pub(crate) struct OnBus {
    bus: Bus,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Stream for OnBus {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        self.heard.poll_recv(cx)
    }
}

impl Sink<(u64, Bytes)> for OnBus {
    type Error = std::io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut inner = self.bus.0.lock().unwrap();
        if inner.is_full {
            inner.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, said: (u64, Bytes)) -> Result<(), Self::Error> {
        let (nonce, payload) = said;
        if payload == "unspeakable" {
            return Err(std::io::Error::other("no"));
        }
        let mut inner = self.bus.0.lock().unwrap();
        inner.messages.push((nonce, payload.clone()));
        drop(inner);
        self.bus.tell(&Heard::Message(Some(nonce), payload));
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}
