//! Calls the handlers of channels with the frames of one peer.
//!
//! A handler is called and polled once where its frame is decoded, which is all that most handlers
//! need. One that waits is kept with its peer, and polled by the peer's connections, whichever is
//! there. No lock is held while a handler runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::PeerChannels;
use super::inlet::{Arrival, Inlet, Next};
use crate::error::Error;
use crate::node::hooks::BoxFuture;
use crate::node::peer::Peer;

/// After this many handlers in one poll, the connection has its other work done.
const HANDLERS_PER_POLL: usize = 64;

impl Peer {
    /// Handles a frame of the channel that the peer has listed at `index`.
    pub(crate) fn take_channel_frame(&self, index: u8, payload: &[u8]) {
        let channels = self.channels();
        let Some((channels, own)) = channels.and_then(|all| Some((all, all.own(index)?))) else {
            self.counters().add_unknown();
            return;
        };
        self.counters().add_channel_received();
        let arrival = {
            let mut received = channels.received();
            let closed = received.closed;
            let arrival = match received.inlets.get_mut(own) {
                Some(inlet) if !closed => inlet.arrived(payload),
                _ => Arrival::Dropped,
            };
            if arrival == Arrival::Queued {
                channels.busy.store(true, Relaxed);
            }
            arrival
        };
        match arrival {
            Arrival::Call => {
                let calls = self.calls_handler();
                let payload = Bytes::copy_from_slice(payload);
                let pending = self.call_channel(own, payload, |handler| {
                    // Polled again with the connection's waker if it is pending. Not to be held
                    // back by what else the connection has done in this poll.
                    let mut handler = tokio::task::unconstrained(handler);
                    let mut cx = Context::from_waker(Waker::noop());
                    Pin::new(&mut handler).poll(&mut cx)
                });
                drop(calls);
                self.channel_polled(channels, own, pending);
            }
            Arrival::Queued => {}
            Arrival::Dropped => self.channel_dropped(1),
        }
    }

    /// Returns whether a handler of a channel runs, or frames wait for one.
    #[inline]
    pub(crate) fn is_in_channels(&self) -> bool {
        self.channels().is_some_and(|all| all.busy.load(Relaxed))
    }

    /// Continues the handlers of channels that wait, and calls those whose frames wait.
    pub(crate) fn poll_channels(&self, cx: &mut Context<'_>) {
        if !self.is_in_channels() {
            return;
        }
        let Some(channels) = self.channels() else {
            return;
        };
        let _calls = self.calls_handler();
        let count = channels.received().inlets.len();
        let mut left = HANDLERS_PER_POLL;
        for own in 0..count {
            loop {
                let next = {
                    let mut received = channels.received();
                    received.inlets.get_mut(own).and_then(Inlet::next)
                };
                let pending = match next {
                    None => break,
                    Some(Next::Handler(handler)) => {
                        self.poll_channel(handler, |handler| handler.as_mut().poll(cx))
                    }
                    Some(Next::Frame(payload)) => {
                        self.call_channel(own, payload, |handler| handler.as_mut().poll(cx))
                    }
                };
                let waits = pending.is_some();
                self.channel_polled(channels, own, pending);
                if waits {
                    break;
                }
                left -= 1;
                if left == 0 {
                    cx.waker().wake_by_ref();
                    return;
                }
            }
        }
        let received = channels.received();
        let busy = received.inlets.iter().any(Inlet::is_busy);
        channels.busy.store(busy, Relaxed);
    }

    /// Drops what waits for handlers, and the handlers that wait, since the peer has left.
    pub(in crate::node) fn channels_closed(&self) {
        let Some(channels) = self.channels() else {
            return;
        };
        let mut received = channels.received();
        received.closed = true;
        let closed: Vec<_> = received.inlets.iter_mut().map(Inlet::close).collect();
        channels.busy.store(false, Relaxed);
        // Handlers are dropped without the lock: they may own the peer.
        drop(received);
        for (handler, frames) in closed {
            drop(handler);
            self.channel_dropped(frames);
        }
    }

    /// Calls the handler of the channel `own`, and polls it with `poll`. Returns it if it is
    /// pending.
    fn call_channel(
        &self,
        own: usize,
        payload: Bytes,
        poll: impl FnOnce(&mut BoxFuture) -> Poll<()>,
    ) -> Option<BoxFuture> {
        let channel = self.node().hooks().channels.get(own)?;
        let called = catch_unwind(AssertUnwindSafe(|| {
            (channel.handler)(self.clone(), payload)
        }));
        match called {
            Ok(handler) => self.poll_channel(handler, poll),
            Err(panic) => {
                self.node().error(Some(self), Error::panicked(&*panic));
                None
            }
        }
    }

    /// Polls a handler. Returns it if it is pending.
    fn poll_channel(
        &self,
        mut handler: BoxFuture,
        poll: impl FnOnce(&mut BoxFuture) -> Poll<()>,
    ) -> Option<BoxFuture> {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = poll(&mut handler);
            polled.is_pending().then_some(handler)
        }));
        polled.unwrap_or_else(|panic| {
            self.node().error(Some(self), Error::panicked(&*panic));
            None
        })
    }

    fn channel_polled(&self, channels: &PeerChannels, own: usize, pending: Option<BoxFuture>) {
        let mut received = channels.received();
        if received.closed {
            drop(received);
            drop(pending);
            return;
        }
        if let Some(inlet) = received.inlets.get_mut(own) {
            inlet.polled(pending);
            if inlet.is_busy() {
                channels.busy.store(true, Relaxed);
            }
        }
    }
}
