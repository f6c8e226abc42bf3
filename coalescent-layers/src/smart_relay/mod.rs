//! Relaying all that peers say, each frame once, in meshes with circles.
//!
//! [`SmartRelay`] passes each frame that a peer sends on to all other peers, the first time it
//! comes. Copies that come another way are neither relayed nor handled: they are counted as
//! [`duplicates`](coalescent_core::Stats::duplicates), and end here.
//!
//! # What is a copy
//!
//! | frame | is known by | for | relayed |
//! |---|---|---|---|
//! | a broadcast | its nonce and payload | 120 s ([`window`](SmartRelay::window)) | yes, while its ttl lasts |
//! | any frame of a wire without nonces (`lines`, `raw`) | its payload, and how often it was said | 5 s ([`content_window`](SmartRelay::content_window)) | yes |
//! | one sent to this node alone | never a copy | | with [`direct`](SmartRelay::direct) |
//! | a request | never a copy | | never |
//!
//! So two broadcasts of equal bytes are two frames. On `lines`, a connection carries lines in
//! order, and each neighbour passes a line on once: the n-th equal line of one connection is new if
//! no other connection has brought n of them yet, and this node has said fewer than n. Two
//! neighbours whose authors say the same line within 5 s cannot be told from one whose line came
//! both ways: that line is heard once. At most 64 equal lines are new within that time
//! ([`repeats`](SmartRelay::repeats)), so that a circle among nodes that know no copies makes no
//! storm. While so much is said that copies may come later than after 5 s, lines are known for
//! longer, see [`content_window`](SmartRelay::content_window); one that was held up for longer by
//! something else, such as a node that was stopped, is new when it comes.
//!
//! What this node itself says is in the set, so that it does not hear its own words when they come
//! back, if the relay is registered as a plugin ([`AppExt::with`](coalescent_core::AppExt::with)
//! does that).
//!
//! A frame is put in the set before it is relayed, so that copies that two peers send at one moment
//! are one frame. A copy does not make the set remember it for longer.
//!
//! Three things it cannot know. Where two nodes stand between the same lines peer and the same
//! native mesh, both give the line a nonce, and it is two frames there; where that makes a circle
//! through which the lines peer relays, it may go round as often as equal lines are new
//! ([`repeats`](SmartRelay::repeats)). On `raw`, a frame is what one read brought: bytes
//! that come back are cut elsewhere, and are others. So have no circle of raw connections, in which
//! bytes would go round for ever. And a frame whose first copy came the long way round, with its
//! ttl used up, is not relayed when a copy with more ttl comes: keep the ttl well above the mesh's
//! diameter.
//!
//! # Rewritten payloads
//!
//! A frame is known by its payload as it stands here. A layer outside that [rewrites] payloads
//! changes what is hashed, and what is relayed, with the nonce it came with; a layer inside changes
//! neither.
//!
//! Outside is for nodes that all rewrite alike, and leave alone what is rewritten already. If one
//! node of a circle rewrites and another does not, then what went one way round and what went the
//! other are two frames: both are heard everywhere, the rewritten one at its author too. And if
//! rewriting never comes to an end, each round of a circle makes a new frame, until the ttl is used
//! up. So rewrite inside of the relay where you can.
//!
//! # Where it belongs
//!
//! Outermost, in most apps: then copies cost nothing but their hash. What stands outside of it sees
//! every copy; a limit there limits copies too.
//!
//! ```text
//! App::new().with(SmartRelay::new()).with(Courier::new())     relays all that this node hears
//! App::new().with(Courier::new()).with(SmartRelay::new())     relays only what parses as a message
//! App::new().with(SmartRelay::new().relay_after())            relays only what the rest of the
//!           .with(Courier::new()).with(router)                stack accepted
//! ```
//!
//! Never together with [`Tattletale`](crate::Tattletale). What is inside must be `Clone`, see
//! [the crate](crate#what-must-be-clone).
//!
//! # Per peer or shared
//!
//! Shared: one [`SmartRelay`] is for one node, and all the services it makes, and its clones, have
//! one set. Two nodes in one process need two: with one, the second would take all it hears from
//! the first for copies.
//!
//! # When it is full
//!
//! The set takes memory with use, up to [`capacity`](SmartRelay::capacity) (64 MiB for each of both
//! kinds of frames), and gives it back when the time of its frames is over. Nothing is forgotten
//! from which a copy may still come: what there is no room to remember is refused, which means that
//! it is neither handled nor relayed, and counted as dropped ([`DropReason::Refused`],
//! [`SeenStats::refused`]). Before that, a peer that only publishes is held back, for up to 5 s.
//!
//! One connection gets no more than three quarters of the room, and the rest is for others, so that
//! who floods is held back or refused alone. Where no copy of any frame has come for two minutes,
//! as in a star, nothing is refused: then the oldest frame of the same connection makes room, and
//! only that connection could say it a second time.
//!
//! When a peer is full, it asks for [`Flow::Drop`]: the connection that read the frame
//! waits for [`Config::relay_grace`](coalescent_core::Config::relay_grace), then drops the frame
//! for that peer alone, and counts it. So it cannot freeze, whatever the mesh looks like.
//!
//! # Example
//!
//! ```
//! use coalescent_core::{App, AppExt, transport::Memory};
//! use coalescent_layers::SmartRelay;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), coalescent_core::Error> {
//! // Three nodes in a circle.
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone()).with(SmartRelay::new());
//! let (alice, bob) = (app().listen("alice:1").await?, app().listen("bob:2").await?);
//! let carol = app().start().await?;
//! bob.connect("alice:1").await?;
//! carol.connect("alice:1").await?;
//! carol.connect("bob:2").await?;
//! let mut heard = bob.reader();
//!
//! // Bob hears each of them once, though both Alice and Carol tell him.
//! alice.broadcast_payload("beep").await;
//! alice.broadcast_payload("boop").await;
//!
//! assert_eq!(heard.next_frame().await.expect("bob runs").payload(), b"beep");
//! assert_eq!(heard.next_frame().await.expect("bob runs").payload(), b"boop");
//! # Ok(())
//! # }
//! ```
//!
//! [`DropReason::Refused`]: coalescent_core::event::DropReason::Refused
//! [`Flow::Drop`]: coalescent_core::Flow::Drop
//! [rewrites]: coalescent_core::Frame::set_payload

mod layer;
mod seen;
mod service;
mod shared;

pub use self::layer::{SeenStats, SmartRelay};
pub use self::seen::{CAPACITY, CONTENT_TTL, FRAME_BYTES, REPEATS, TTL};
pub use self::service::{ResponseFuture, SmartRelayService};
