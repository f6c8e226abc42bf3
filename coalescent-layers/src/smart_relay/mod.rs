//! Relaying every frame once, in any mesh, including meshes with cycles.
//!
//! [`SmartRelay`] passes each frame that a peer sends on to all other peers the first time it
//! arrives. Copies that arrive another way are neither relayed nor handled; they are counted as
//! [`duplicates`](coalescent_core::Stats::duplicates).
//!
//! # What counts as a copy
//!
//! | frame | identified by | remembered for | relayed |
//! |---|---|---|---|
//! | broadcast | nonce and payload | 120 s | while its ttl lasts |
//! | any frame on `lines` or `raw` | payload and its count | 5 s | always |
//! | sent to this node only | never a copy | | with [`direct`](SmartRelay::direct) |
//! | request | never a copy | | never |
//!
//! The times are set with [`window`](SmartRelay::window) and
//! [`content_window`](SmartRelay::content_window).
//!
//! Two broadcasts with equal payloads are therefore two frames. The wires `lines` and `raw` have no
//! nonces. Each of their connections carries frames in order, and each neighbour relays a frame
//! once: the n-th equal line of a connection is new if no other connection has delivered n of them
//! yet and this node has sent fewer than n. If the authors behind two neighbours send the same line
//! within 5 s, that cannot be told apart from one line arriving both ways, so it is delivered once.
//! At most 64 equal lines are accepted as new within that time ([`repeats`](SmartRelay::repeats)),
//! so that a cycle of nodes that do not recognize copies cannot cause a broadcast storm. While
//! the node relays so much that copies may arrive later than after 5 s, frames are remembered for
//! longer, see [`content_window`](SmartRelay::content_window). A copy delayed for longer by
//! something else, such as a stopped node, is new when it arrives.
//!
//! Frames that this node itself sends are in the set too, so that it does not receive them back,
//! provided that the relay is registered as a plugin
//! ([`AppExt::with`](coalescent_core::AppExt::with) does that).
//!
//! A frame enters the set before it is relayed, so copies sent by two peers at the same moment are
//! one frame. Receiving a copy does not extend the time for which the frame is remembered.
//!
//! There are three limitations:
//!
//! - If two nodes both connect the same `lines` peer to the same native mesh, each assigns its own
//!   nonce to a line, which becomes two frames. If this forms a cycle through which the `lines`
//!   peer relays, the line may circulate as often as equal lines are accepted as new
//!   ([`repeats`](SmartRelay::repeats)).
//! - On `raw`, a frame is the content of one read. Bytes that return are split differently and are
//!   other frames, so bytes circulate forever in a cycle of `raw` connections. Do not build one.
//! - If the first copy of a frame arrives over a long path with its ttl used up, the frame is not
//!   relayed when a copy with a higher ttl arrives later. Choose a ttl well above the mesh's
//!   diameter.
//!
//! # Rewritten payloads
//!
//! A frame is identified by its payload as the relay sees it. A layer outside the relay that
//! [rewrites] payloads changes both what is hashed and what is relayed, while the nonce stays the
//! same. A layer inside the relay changes neither.
//!
//! Rewrite outside the relay only if all nodes rewrite in the same way and leave rewritten payloads
//! alone. If one node of a cycle rewrites and another does not, the original and the rewritten
//! payload are two frames: both are delivered everywhere, the rewritten one to its author as well.
//! If a rewritten payload is rewritten again, each round of a cycle creates a new frame until the
//! ttl is used up. So rewrite inside the relay if possible.
//!
//! # Where it belongs
//!
//! Outermost in most apps, so that a copy costs only its hash. Layers outside it see every copy,
//! and a limit there limits copies too.
//!
//! ```text
//! App::new().with(SmartRelay::new()).with(Courier::new())     relays all frames received
//! App::new().with(Courier::new()).with(SmartRelay::new())     relays only messages that parse
//! App::new().with(SmartRelay::new()).with(Validate::new(..))  relays only what the check accepts
//! App::new().with(SmartRelay::new().relay_after())            relays only frames accepted by the
//!           .with(Courier::new()).with(router)                rest of the stack
//! ```
//!
//! With a [`Validate`](crate::Validate) inside of it, or a layer of one's own that
//! [judges](coalescent_core::Frame::judge), the relay waits for the verdict, but not for what comes
//! after it. A frame is in the set from its arrival on, so copies that arrive while the verdict is
//! open are copies; the peers that sent them, at most 64, share the blame if the frame is rejected.
//! After [`Verdict::Retry`](coalescent_core::Verdict::Retry), and if the connection ends before the
//! verdict, the frame is taken out of the set, and the next copy is new. On wires without nonces
//! that holds for [`content_window`](SmartRelay::content_window) only.
//!
//! Do not combine it with [`Tattletale`](crate::Tattletale). The inner service must be `Clone`, see
//! [the crate documentation](crate#what-must-be-clone).
//!
//! # Per peer or shared
//!
//! Shared: a [`SmartRelay`] is for one node. Its clones, and all services made by them, share one
//! set. Two nodes in one process need two relays; with a single one, the second node would treat
//! everything that it receives from the first as copies.
//!
//! # When it is full
//!
//! The set allocates memory as needed, up to [`capacity`](SmartRelay::capacity) (64 MiB each for
//! frames with and without a nonce), and frees it when its frames expire. A frame is not forgotten
//! while a copy may still arrive. If there is no room to remember a new frame, it is refused: it is
//! neither handled nor relayed, and it is counted as dropped ([`DropReason::Refused`],
//! [`SeenStats::refused`]). Before refusing, the relay stops reading from a peer that only
//! publishes, for up to 5 s.
//!
//! A single connection may use at most seven ninths of the room, so only the peer that floods the
//! mesh is held back or refused. If no copy of any frame has arrived for two minutes, as in a star,
//! the oldest frame is evicted instead of refusing a new one: of frames with a nonce the oldest of
//! the same connection, if its nonces are consecutive, so that only that connection could send it a
//! second time unnoticed.
//!
//! If another peer's outbox is full, the relay uses [`Flow::Drop`]: the connection that read the
//! frame waits for [`Config::relay_grace`](coalescent_core::Config::relay_grace), then drops the
//! frame for that peer only and counts it. Relaying therefore cannot deadlock in any topology.
//!
//! # Example
//!
//! ```
//! use coalescent::{App, AppExt, SmartRelay, transport::Memory};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), coalescent::Error> {
//! // Three nodes in a cycle.
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone()).with(SmartRelay::new());
//! let (alice, bob) = (app().listen("alice:1").await?, app().listen("bob:2").await?);
//! let carol = app().start().await?;
//! bob.connect("alice:1").await?;
//! carol.connect("alice:1").await?;
//! carol.connect("bob:2").await?;
//! let mut reader = bob.reader();
//!
//! // Bob receives each frame once, although both Alice and Carol send it.
//! let _ = alice.broadcast_payload("beep").await?;
//! let _ = alice.broadcast_payload("boop").await?;
//!
//! assert_eq!(reader.next_frame().await.expect("bob runs").payload(), b"beep");
//! assert_eq!(reader.next_frame().await.expect("bob runs").payload(), b"boop");
//! # Ok(())
//! # }
//! ```
//!
//! [`DropReason::Refused`]: coalescent_core::event::DropReason::Refused
//! [`Flow::Drop`]: coalescent_core::Flow::Drop
//! [rewrites]: coalescent_core::Frame::set_payload

mod layer;
mod open;
mod seen;
mod service;
mod shared;
mod verdict;

pub use self::layer::{SeenStats, SmartRelay};
pub use self::seen::{CAPACITY, CONTENT_TTL, FRAME_BYTES, REPEATS, TTL};
pub use self::service::{ResponseFuture, SmartRelayService};
