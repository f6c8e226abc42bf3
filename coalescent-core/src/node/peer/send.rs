//! Sending to one peer, and asking it.

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Peer;
use super::requests::{Answer, Asking};
use super::seat::Role;
use crate::error::Error;
use crate::outbox::{Count, Refused};
use crate::wire::Kind;

impl Peer {
    /// Queues `payload` for this peer alone, waiting for room in its outbox. Relays do not pass it
    /// on.
    ///
    /// A queued payload need not arrive; [`flushed`](Peer::flushed) waits until it has been written
    /// to the socket.
    ///
    /// In a handler of a message of this very peer, do not wait: return the answer, or use
    /// [`try_send_payload`](Peer::try_send_payload); see ["Answering"](Peer#answering).
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) if the peer is gone, [`is_encode`](Error::is_encode) if the
    /// payload does not fit its wire, or is larger than [`max_payload`](Peer::max_payload),
    /// [`is_refused`](Error::is_refused) if it is only a [contact](Peer::is_contact).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, nothing was queued.
    pub async fn send_payload(&self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.send_kind(Kind::Data, payload.into()).await
    }

    /// Queues `payload` for this peer alone, if there is room for it now.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// # let mut heard = alice.reader();
    /// # let peer = bob.connect("alice:1").await?;
    /// match peer.try_send_payload("position 3,4") {
    ///     Err(error) if error.is_full() => {} // the next one will do
    ///     sent => sent?,
    /// }
    /// # assert!(heard.next_frame().await.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_full`](Error::is_full) if there is no room, and as for
    /// [`send_payload`](Peer::send_payload).
    pub fn try_send_payload(&self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.check_promoted()?;
        let chunk = self
            .encode_own(Kind::Data, payload.into())
            .map_err(Error::encode)?;
        match self.0.outbox.try_push(&[chunk]) {
            Ok(_) => Ok(()),
            Err(Refused::Full) => Err(Error::full()),
            Err(Refused::Closed) => Err(Error::closed()),
        }
    }

    /// Sends `payload` as a request, and waits for its reply, at most
    /// [`Config::request_timeout`](crate::Config::request_timeout).
    ///
    /// Many requests may be in flight; replies come in any order. Requests beyond
    /// [`REQUEST_WINDOW`](crate::REQUEST_WINDOW) wait for their turn without being written, and
    /// that is part of the time. A handler may ask the peer whose frame it is handling.
    ///
    /// ```
    /// use coalescent::{App, BoxError, Frame, Reply, transport::Memory};
    /// use tower::{layer::layer_fn, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// // Answers each frame with its length.
    /// let length = layer_fn(|_inner| {
    ///     service_fn(async |frame: Frame| {
    ///         Ok::<_, BoxError>(Reply::Payload(frame.payload().len().to_string().into()))
    ///     })
    /// });
    /// let alice = App::new().layer(length).transport(network.clone()).listen("alice:1").await?;
    /// let bob = App::new().transport(network).start().await?;
    /// let peer = bob.connect("alice:1").await?;
    /// assert_eq!(peer.request_payload("beep boop").await?, "9");
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_refused`](Error::is_refused) if the peer's wire has no requests, or it is only a
    /// [contact](Peer::is_contact),
    /// [`is_encode`](Error::is_encode) if the payload is larger than the frame limit or
    /// [`max_payload`](Peer::max_payload), [`is_timeout`](Error::is_timeout),
    /// [`is_no_answer`](Error::is_no_answer) if nothing on the other side answered,
    /// [`is_failed`](Error::is_failed) if answering failed there,
    /// [`is_closed`](Error::is_closed) if the peer is gone or leaves.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, the peer is told that nobody waits any more. A
    /// request that waits for its turn is not sent.
    pub async fn request_payload(&self, payload: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.check_requests()?;
        let limit = self.0.node.config().request_timeout;
        let begun = Instant::now();
        let payload = payload.into();
        let wait = async {
            let mut reply = Pending::open(self, payload.len()).await?;
            self.send_kind(Kind::Request { id: reply.id }, payload)
                .await?;
            reply.asked = true;
            reply.wait().await
        };
        let result = match tokio::time::timeout(limit, wait).await {
            Ok(result) => result,
            Err(_) => Err(Error::request_timeout(limit)),
        };
        let meter = self.0.node.meter();
        meter.request(result.is_ok(), begun.elapsed());
        result
    }

    /// Waits until all that is queued for this peer now has been written to its socket, or dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn flushed(&self) {
        self.0.outbox.flushed().await;
    }

    async fn send_kind(&self, kind: Kind, payload: Bytes) -> Result<(), Error> {
        self.check_promoted()?;
        let chunk = self.encode_own(kind, payload).map_err(Error::encode)?;
        let chunks = [chunk];
        let outbox = &self.0.outbox;
        match outbox.try_push(&chunks) {
            Ok(_) => return Ok(()),
            Err(Refused::Closed) => return Err(Error::closed()),
            Err(Refused::Full) => {}
        }
        let _stuck = self.is_handled().then(|| self.stick());
        let pushed = outbox.push(&chunks, &mut 0).await;
        pushed.map_err(|_| Error::closed())
    }

    /// Tells the peer that nobody waits for the reply to the request `id` any more, if there is
    /// room for that. If not, the reply comes in vain.
    fn try_withdraw(&self, id: u32) -> bool {
        let count = Count::default();
        let cancel = self.encode(Kind::Cancel { id }, 0, Bytes::new(), count);
        cancel.is_ok_and(|cancel| self.outbox().try_push(&[cancel]).is_ok())
    }

    /// Checks whether requests can be sent to the peer, now and later.
    pub(crate) fn check_ready(&self) -> Result<(), Error> {
        self.check_requests()?;
        if self.0.outbox.is_closed() {
            return Err(Error::closed());
        }
        Ok(())
    }

    fn check_requests(&self) -> Result<(), Error> {
        self.check_promoted()?;
        if !self.0.wire.has_handshake() {
            return Err(Error::unsupported(
                "requests need the native wire: this peer's wire has no place for a reply",
            ));
        }
        Ok(())
    }
}

impl Peer {
    /// Checks that frames for its stack may be sent to the peer: it is no contact.
    pub(crate) fn check_promoted(&self) -> Result<(), Error> {
        match self.stage().role() {
            Role::Peer => Ok(()),
            Role::Contact => Err(Error::unsupported(
                "this is a contact, with which only channels are shared: make a peer of it with \
                 `Peer::promote`",
            )),
        }
    }
}

/// A request that waits for its reply. If it is dropped before, it tells the peer so, unless the
/// request was never sent.
#[derive(Debug)]
struct Pending<'a> {
    id: u32,
    peer: &'a Peer,
    /// Whether the request is on its way.
    asked: bool,
    /// `None` once the answer was taken.
    answer: Option<oneshot::Receiver<Answer>>,
    _asking: Option<Asking<'a>>,
}

impl<'a> Pending<'a> {
    /// Opens a request of `len` bytes, once it has a place in its window.
    async fn open(peer: &'a Peer, len: usize) -> Result<Self, Error> {
        let requests = &peer.0.requests;
        // One that is too large for the peer is refused when it is encoded.
        let len = if len > peer.limit() { 0 } else { len };
        let asking = peer.is_handled().then(|| requests.ask());
        let place = requests.enter(Peer::is_in_a_handler(), len).await?;
        let (id, answer) = requests.open(place, || peer.is_connected());
        Ok(Self {
            id,
            peer,
            asked: false,
            answer: Some(answer),
            _asking: asking,
        })
    }

    /// Waits for the reply.
    async fn wait(mut self) -> Answer {
        let Some(answer) = self.answer.as_mut() else {
            return Err(Error::closed());
        };
        let result = answer.await.unwrap_or_else(|_| Err(Error::closed()));
        self.answer = None;
        result
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.answer.is_none() {
            return;
        }
        let Self {
            id, peer, asked, ..
        } = *self;
        peer.0
            .requests
            .cancel(id, || !asked || peer.try_withdraw(id));
    }
}
