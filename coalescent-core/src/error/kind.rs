//! Telling errors apart.

use super::{Error, ErrorKind};

impl Error {
    /// Returns whether the app's options are invalid.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.kind == ErrorKind::Config
    }

    /// Returns whether listening on an address failed.
    #[must_use]
    pub fn is_listen(&self) -> bool {
        self.kind == ErrorKind::Listen
    }

    /// Returns whether a connection could not be established.
    #[must_use]
    pub fn is_dial(&self) -> bool {
        self.kind == ErrorKind::Dial
    }

    /// Returns whether the peer's handshake was missing or invalid.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        matches!(self.kind, ErrorKind::Handshake | ErrorKind::Unsaid)
    }

    /// Returns whether one side rejected the other: another network, no free slot, an operation
    /// that the wire does not support, or a connection of this node to itself.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Refused
                | ErrorKind::Busy
                | ErrorKind::Banned
                | ErrorKind::OwnBan
                | ErrorKind::Itself
        )
    }

    /// Returns whether the other side has no place left for this node now, or this node has none
    /// for a [contact](crate::Mesh::contact): it is worth trying again later. Such an error
    /// [`is_refused`](Error::is_refused) too.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.kind == ErrorKind::Busy
    }

    /// Returns whether a connection was refused because one side is banned for its faults: this
    /// node, as the other side says, or the other side, by this node (see
    /// [`Mesh::bans`](crate::Mesh::bans)). Such an error [`is_refused`](Error::is_refused) too.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        matches!(self.kind, ErrorKind::Banned | ErrorKind::OwnBan)
    }

    /// Returns whether this node has refused a connection, since it has banned the other side.
    pub(crate) fn is_own_ban(&self) -> bool {
        self.kind == ErrorKind::OwnBan
    }

    /// Returns whether a dialled address leads to this node itself. This may change: seeds are
    /// dialled again, and other addresses of the same name are tried.
    #[must_use]
    pub fn is_itself(&self) -> bool {
        self.kind == ErrorKind::Itself
    }

    /// Returns whether a non-loopback address was used without an identity and without
    /// `allow_plaintext()`.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        self.kind == ErrorKind::Plaintext
    }

    /// Returns whether a call through a peer's stack failed, by an error or a panic.
    #[must_use]
    pub fn is_call(&self) -> bool {
        matches!(self.kind, ErrorKind::Call | ErrorKind::Panic)
    }

    /// Returns whether handling a frame panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.kind == ErrorKind::Panic
    }

    /// Returns whether the frame that could not be handled should not have been sent; see
    /// [`offence`](Error::offence) for when that counts against the peer.
    #[must_use]
    pub fn is_offence(&self) -> bool {
        self.offence
    }

    /// Returns whether an event callback panicked. Callbacks are not called with such errors, since
    /// they could panic again endlessly.
    #[must_use]
    pub fn is_callback(&self) -> bool {
        self.kind == ErrorKind::Callback
    }

    /// Returns whether a plugin has [reported](crate::Peers::report) that it cannot do its work.
    #[must_use]
    pub fn is_plugin(&self) -> bool {
        self.kind == ErrorKind::Plugin
    }

    /// Returns whether this error stands for several that were not reported individually; the text
    /// contains their number.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.kind == ErrorKind::LeftOut
    }

    /// Returns whether the peer had disconnected, or disconnected during the operation; or whether
    /// the mesh has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == ErrorKind::Closed
    }

    /// Returns whether the peer's outbox was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == ErrorKind::Full
    }

    /// Returns whether a time limit elapsed: of dialling, of the handshake, or of a request.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::Timeout
    }

    /// Returns whether encoding failed: a message in the courier's codec, or a payload on the
    /// peer's wire.
    #[must_use]
    pub fn is_encode(&self) -> bool {
        self.kind == ErrorKind::Encode
    }

    /// Returns whether a reply is not a valid message in the courier's codec.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        self.kind == ErrorKind::Decode
    }

    /// Returns whether a method of the courier was called without a courier.
    #[must_use]
    pub fn is_no_courier(&self) -> bool {
        self.kind == ErrorKind::NoCourier
    }

    /// Returns whether the peer's stack returned no answer to a request.
    #[must_use]
    pub fn is_no_answer(&self) -> bool {
        self.kind == ErrorKind::NoAnswer
    }

    /// Returns whether the peer answered a request with an error: its handler, or a layer of its
    /// stack, refused the request or failed. The peer's words are the [reason](Error::peer_reason).
    ///
    /// This is an answer, like the status of an HTTP response: the connection is well, and asking
    /// again may succeed. Contrast [`is_refused`](Error::is_refused), which is about connections.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.kind == ErrorKind::Failed
    }

    /// Returns whether a peer was [penalized](crate::Peer::penalize).
    #[must_use]
    pub fn is_penalty(&self) -> bool {
        self.kind == ErrorKind::Penalty
    }

    /// Returns the reason that the peer gave for refusing or failing a request, if this
    /// [is such an answer](Error::is_failed): what its handler said, such as the reason of a
    /// [`Refusal`](crate::Refusal). On one line, with control characters escaped; the peer sends at
    /// most 256 bytes.
    #[must_use]
    pub fn peer_reason(&self) -> Option<&str> {
        let text = self.is_failed().then_some(&self.text)?;
        text.strip_prefix(super::PEER_FAILED)
    }

    /// Returns whether this is caused by a [`Refusal`](crate::Refusal).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.refusal
    }

    /// Returns whether an inbound connection ended before it sent any byte.
    pub(crate) fn is_unsaid(&self) -> bool {
        self.kind == ErrorKind::Unsaid
    }
}
