//! Judging frames before a relay passes them on.
//!
//! A relay passes on whatever it receives, and each node that it reaches does the same: junk that
//! one node lets in, all have to carry. [`Validate`] asks a check of the application first. It
//! answers with a [`Verdict`]:
//!
//! | verdict | passed on | handled here | its sender |
//! |---|---|---|---|
//! | [`Accept`](Verdict::Accept) | at once, before it is handled | yes | |
//! | [`Ignore`](Verdict::Ignore) | no | no | does not pay |
//! | [`Retry`](Verdict::Retry) | no, but a later copy may be | no | does not pay |
//! | [`Reject(weight)`](Verdict::Reject) | no | no | pays, as do those who sent copies meanwhile |
//!
//! # Who pays
//!
//! To pay is to be [penalized](coalescent_core::Peer::penalize).
//! On a mesh with relays, the peer that sent a frame need not have made it: it may have passed it
//! on in good faith. So `Reject` is for what *every* node of the network refuses to pass on, such
//! as a signature that does not hold. For everything else there is `Ignore`: what this version of
//! the program does not know, another one may know. A node that rejects what its neighbours accept
//! cuts itself off from them; a peer that goes on after 100 weights in a minute
//! ([`Config::error_budget`](coalescent_core::Config::error_budget)) is disconnected.
//!
//! # Where it belongs
//!
//! Inside of the relay, which then waits for the verdict instead of passing frames on at once. The
//! relay recognizes copies before, so each frame is judged once. The order is all that has to be
//! said: a relay knows whether a `Validate` has been added after it.
//!
//! ```text
//! App::new().with(SmartRelay::new()).with(Validate::new(check))   judges frames before they are
//!                                                                 relayed, and each one once
//! App::new().with(SmartRelay::new()).with(Courier::json())        judges messages; what does not
//!           .with(Validate::new(check))                           parse is not relayed either
//! App::new().with(Validate::new(check)).with(SmartRelay::new())   judges every copy; what it does
//!                                                                 not accept gets to no relay
//! App::new().with(SmartRelay::new().relay_after())                relays what is accepted, and
//!           .with(Validate::new(check)).with(router)              then handled without an error
//! App::new().with(Validate::new(check)).with(router)              without a relay it is a gate
//! ```
//!
//! A stack that is put together without an app, or added to it with
//! [`layer`](coalescent_core::App::layer), must say it: `SmartRelay::new().validated()`, or
//! `Tattletale::new().validated()`. So must an app whose own layer judges, with
//! [`Frame::accept`](coalescent_core::Frame::accept) and
//! [`Frame::judge`](coalescent_core::Frame::judge).
//!
//! Frames that are sent to this node alone are judged as well: they are handled only if they are
//! accepted. A request that is not is refused, and its sender learns that. What this node itself
//! says is not judged.
//!
//! # Copies
//!
//! A copy that arrives while the verdict is open is a copy like any other: it is neither judged nor
//! handled, and counted as a duplicate. Its sender shares the blame if the frame is rejected. After
//! `Retry`, the next copy that arrives is judged as if it were the first; those that have come
//! before do not come back.
//! [`Tattletale`](crate::Tattletale) does not know copies.
//!
//! # How long it takes, and what it holds
//!
//! A verdict takes at most 10 s ([`within`](Validate::within)). After that the check is dropped,
//! the frame is not relayed, as with `Retry`, and an error event says so. If the check panics, that
//! is an error event too, and the frame is ignored. If the connection ends before the verdict, the
//! check is dropped, the frame is counted as dropped, and a later copy is judged.
//!
//! While a check waits, its frame takes a place among the calls of its peer: at most
//! [`Config::concurrency`](coalescent_core::Config::concurrency) of them (64), within
//! [`Config::read_ahead`](coalescent_core::Config::read_ahead) bytes; beyond that the peer is not
//! read. Other peers are not held back. Beside its frame, an open verdict takes less than 2 KiB:
//! the call, and up to 64 peers that have sent copies. Frames whose verdicts take different times
//! are relayed in the order of their verdicts, not of their arrival.
//!
//! Relaying waits for the check, but not for what is further in: once a frame is accepted, it is
//! relayed, and then handled. The permit of a concurrency limit further in is not held while a
//! check waits. If what is further in is not ready for another frame, that holds back the next
//! check, as it would hold back a plain relay.
//!
//! # What is counted
//!
//! A broadcast that is not passed on since it was not accepted counts as
//! [`withheld`](coalescent_core::Stats::withheld), once. So for each target, received = relayed +
//! duplicates + dropped + withheld.
//!
//! # Per peer or shared
//!
//! The layer has no state but the check, which is cloned for each peer. The inner service must be
//! `Clone`, see [the crate documentation](crate#what-must-be-clone).
//!
//! # Example
//!
//! ```
//! use coalescent::{App, AppExt, Courier, Frame, MeshExt, SmartRelay, transport::Memory};
//! use coalescent::validate::{Validate, Verdict};
//!
//! /// Says what every node of this network says about a score.
//! async fn check(frame: Frame) -> Verdict {
//!     let Some(message) = frame.message().filter(|message| message.kind() == "score") else {
//!         return Verdict::Ignore; // of a later version, perhaps
//!     };
//!     match message.body::<u32>() {
//!         Ok(0..=100) => Verdict::Accept,
//!         _ => Verdict::reject(),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone());
//! let hub = app().with(SmartRelay::new()).with(Courier::new()).with(Validate::new(check));
//! let hub = hub.listen("hub:1").await?;
//! let alice = app().with(Courier::new()).start().await?;
//! let bob = app().with(Courier::new()).start().await?;
//! let mut reader = bob.reader();
//! alice.connect("hub:1").await?;
//! bob.connect("hub:1").await?;
//!
//! for score in [7, 101, 8] {
//!     let _ = alice.broadcast("score", &score).await?;
//! }
//!
//! for expected in [7, 8] {
//!     let frame = reader.next_frame().await.expect("bob runs");
//!     assert_eq!(frame.message().unwrap().body::<u32>()?, expected);
//! }
//! assert_eq!(hub.stats().withheld, 1);
//! # Ok(())
//! # }
//! ```

mod check;
mod future;
mod layer;
mod service;

pub use coalescent_core::Verdict;

pub use self::check::{AsyncCheck, Check, SyncCheck};
pub use self::future::ResponseFuture;
pub use self::layer::{VERDICT_TIME, Validate};
pub use self::service::ValidateService;
