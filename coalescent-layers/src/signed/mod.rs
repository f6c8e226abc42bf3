//! Authors that can be proven.
//!
//! On a mesh with relays, a frame's [peer](coalescent_core::Frame::peer) is who passed it on, not
//! who said it. With [`Signed`], messages carry the ed25519 signature of their author, however many
//! nodes relay them and whatever these nodes know of signatures. The layer verifies it and puts an
//! [`Author`] into the frame, where handlers and layers further
//! in find it with [`Frame::author`](coalescent_core::Frame::author); the router has an extractor.
//!
//! | | a proper signature | none | one that does not hold |
//! |---|---|---|---|
//! | [`Signed::new()`] | passed, with its author | passed | withheld |
//! | [`.pass_invalid()`](Signed::pass_invalid) | passed, with its author | passed | passed |
//! | [`.require()`](Signed::require) | passed, with its author | withheld | withheld |
//! | [`.allow(keys)`](Signed::allow) | passed, if by one of these | withheld | withheld |
//!
//! With [`.by(identity)`](Signed::by) the node also signs what it says.
//!
//! A message that is withheld is not given to the layers inside, nor passed on by a relay that
//! stands inside, or outside with `relay_after`. It is [counted](SignedStats), but no error:
//! whoever passed it on pays nothing, since relays that check no signatures do so honestly. Only a
//! request, which nobody relays, is answered with the reason.
//!
//! # What a signature covers
//!
//! The network's name, the message's type, the time of signing and the bytes of the body; not the
//! other headers. A signature holds for one network only. Between codecs it does not survive: a
//! gateway that translates bodies signs them itself.
//!
//! # Replays
//!
//! Everybody can send a signed message again. A message is taken only if its time is at most 120 s
//! in the past or 30 s in the future by this node's clock, and only once in that time: see
//! [`window`](Signed::window) and [`capacity`](Signed::capacity). Nodes therefore need clocks that
//! are right within these bounds. Clocks that jump are survived: nothing is taken twice because of
//! one, unless a clock is wrong by more than that at the time of the replay.
//!
//! # What it does not do
//!
//! - Anybody can make keys. A signature tells that two messages have one author, or that an author
//!   is on a list; not that the author is honest, nor how many people there are.
//! - Messages stay readable for every node that relays them.
//! - A reply to a request comes from the peer of the connection, and is not checked by the layer;
//!   see [`author_of`].
//!
//! # Where it belongs
//!
//! Inside the courier, which parses the messages.
//!
//! ```text
//! checks, then relays at once:
//!     App::new().with(Courier::new()).with(Signed::new().require())
//!               .with(SmartRelay::new()).with(router)
//! checks, waits for the handlers, then relays:
//!     App::new().with(SmartRelay::new().relay_after())
//!               .with(Courier::new()).with(Signed::new().require()).with(router)
//! relays everything, and checks what is handled here:
//!     App::new().with(SmartRelay::new())
//!               .with(Courier::new()).with(Signed::new().require()).with(router)
//! ```
//!
//! In the first, copies are recognized by their signatures, before they are verified. The inner
//! service must be `Clone`, see [the crate documentation](crate#what-must-be-clone).
//!
//! # Per peer or shared
//!
//! The memory of accepted messages is shared by all services of the layer and its clones: what one
//! peer brought is a replay when another brings it. It is bounded, per author too, and what happens
//! when it is full is told at [`capacity`](Signed::capacity). Verifying takes tens of µs of the
//! connection's task.
//!
//! # Example
//!
//! ```
//! use coalescent::{App, AppExt, Courier, MeshExt, Signed, identity::Identity, transport::Memory};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), coalescent::Error> {
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone()).with(Courier::new());
//! let key = Identity::generate();
//! let alice = app().with(Signed::new().by(key.clone())).listen("alice:1").await?;
//! let bob = app().with(Signed::new().require()).start().await?;
//! bob.connect("alice:1").await?;
//! let mut reader = bob.reader();
//! # while alice.peers().is_empty() { tokio::task::yield_now().await; }
//!
//! alice.broadcast("chat", "hello").await?;
//!
//! let frame = reader.next_frame().await.expect("bob runs");
//! assert_eq!(frame.author().expect("it is signed").key(), &key.id());
//! # Ok(())
//! # }
//! ```
//!
//! # A rate for each author
//!
//! A limit per connection slows a neighbour down for what others say. To limit authors instead, ask
//! a keyed limiter, such as the crate `governor` has, in a layer inside of this one, and withhold
//! what is too much:
//!
//! ```
//! # use coalescent::{Frame, identity::PublicKey};
//! # fn too_much(_author: &PublicKey) -> bool { true }
//! fn passes(frame: &Frame) -> bool {
//!     let passes = !frame.author().is_some_and(|author| too_much(author.key()));
//!     if !passes {
//!         frame.withhold();
//!     }
//!     passes
//! }
//! ```
//!
//! The crate `coalescent` has the whole of it in its module `tower_layers`.

mod bytes;
mod layer;
mod service;
mod shared;
mod signer;
mod stats;
mod window;

use std::error::Error;
use std::fmt;

use coalescent_core::Message;
use coalescent_core::identity::Author;

use self::bytes::Signature;
pub use self::bytes::{AT, AUTHOR, SIG};
pub use self::layer::Signed;
pub use self::service::{ResponseFuture, SignedService};
pub use self::stats::SignedStats;
pub use self::window::{AUTHOR_SHARE, CAPACITY, FUTURE, PAST};

/// Returns the author of a received message, such as a reply; `None` if nobody has signed it.
///
/// Neither its time nor whether it was received before is checked: see
/// [`Author::at`](coalescent_core::identity::Author::at). `network` is the name in
/// [`Config::network`](coalescent_core::Config::network).
///
/// # Errors
///
/// Fails if there is a signature, and it does not hold or the headers are not well-formed.
pub fn author_of(message: &Message, network: &str) -> Result<Option<Author>, SignatureError> {
    match Signature::of(message) {
        Ok(None) => Ok(None),
        Ok(Some(signature)) => match shared::verify(&signature, network, message) {
            Some(author) => Ok(Some(author)),
            None => Err(SignatureError(())),
        },
        Err(_) => Err(SignatureError(())),
    }
}

/// The error of a signature that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureError(());

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the signature does not hold: the message, its author or its network was changed",
        )
    }
}

impl Error for SignatureError {}
