// Where the README's links to files lead in the documentation: of two definitions the first counts.
//! [docs/discovery.md]: crate::finding_peers
//! [docs/tower.md]: crate::tower_layers
//! [docs/tls.md]: https://docs.rs/coalescent/latest/coalescent/keys_and_tls/
//! [docs/replication.md]: crate::replicating_data
//! [docs/transports.md]: crate::transports
//! [docs/thousands.md]: https://docs.rs/coalescent/latest/coalescent/thousands_of_nodes/
//! [docs/metrics.md]: https://docs.rs/crate/coalescent/latest/source/docs/metrics.md
//! [docs/performance.md]: https://docs.rs/crate/coalescent/latest/source/docs/performance.md
//! [docs/relaying.md]: https://docs.rs/crate/coalescent/latest/source/docs/relaying.md
//! [ARCHITECTURE.md]: https://docs.rs/crate/coalescent/latest/source/ARCHITECTURE.md
//! [SECURITY.md]: https://docs.rs/crate/coalescent/latest/source/SECURITY.md
//! [examples/]: https://docs.rs/crate/coalescent/latest/source/examples/
//! [bridges]: https://docs.rs/coalescent-bridge
//! [transports/iroh]: https://docs.rs/coalescent-iroh
//! [Apache License, Version 2.0]: https://docs.rs/crate/coalescent/latest/source/LICENSE-APACHE
//! [MIT license]: https://docs.rs/crate/coalescent/latest/source/LICENSE-MIT
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

// What this crate hands on, by name: what the crates below add is part of it only once it stands
// here. `tests/it/facade.rs` fails for what is neither here nor left out on purpose.
#[doc(no_inline)]
pub use coalescent_core::Extensions;
#[cfg(feature = "test-util")]
#[doc(inline)]
pub use coalescent_core::test_util;
#[doc(inline)]
pub use coalescent_core::{
    Address, AddressError, Admitted, AnyLayer, App, AppExt, Ask, BAN_REASON_MAX, BANS_MAX,
    BANS_OF_NETWORK, BATCH, Ban, BanTarget, BoxError, CHANNEL_INBOX, CloneService, Config,
    DISCOVERED_MAX, Dial, Direction, DisconnectReason, DropReason, Error, Event, Events,
    FORGIVEN_AFTER, FRAME_COST, Flow, Frame, FrameRef, Frames, Goodbye, HANDED_COST, HANDED_IN,
    Held, Inbox, Mesh, MeshReader, MeshWriter, Message, MessageType, NodeId, OneMore, PAYLOAD_COST,
    Payload, Peer, PeerChange, PeerChanges, PeerId, PeerLayer, PeerReader, PeerService, PeerWriter,
    Peers, Plugin, Probe, PublicKey, READ_BY_GRACE, REQUEST_COST, REQUEST_WINDOW, ReadBy, Refusal,
    Registrar, Relay, Reply, Report, RequestFuture, Sent, Source, Starting, Stats, Suggestion,
    TopicName, Verdict, WRITE_CHUNK, Wanted, WeakMesh, Wire, address, codec, config, connection,
    event, identity, message_type, outbox, report, stack, transport, wire,
};
#[doc(inline)]
pub use coalescent_layers::{
    CatchPanic, Courier, Discovery, MeshExt, MeshStreamsExt, PeerExt, PeerStreamsExt,
    ServiceBuilderExt, SmartRelay, Streams, Tattletale, TraceContext, Validate, catch_panic,
    courier, discovery, smart_relay, streams, tattletale, trace, validate,
};
#[cfg(feature = "discover")]
#[doc(inline)]
pub use coalescent_layers::{MeshDiscoverExt, PeerDiscover, discover};
#[cfg(feature = "overlay")]
#[doc(inline)]
pub use coalescent_layers::{MeshOverlayExt, Overlay, Topic, overlay};
#[cfg(feature = "tls")]
#[doc(inline)]
pub use coalescent_layers::{Signed, signed};
#[doc(inline)]
pub use coalescent_router::{
    Ends, FromFrame, FromFrameParts, Handler, HandlerFuture, IntoReply, MeshRouterExt, NotFound,
    Route, RouteError, Router, RouterFuture, RouterHandle, RouterService, Typed, TypedArguments,
    ends, extract, middleware,
};

#[cfg(feature = "upgrade")]
pub mod upgrade;

#[cfg(feature = "websocket")]
pub mod websocket;

#[doc = include_str!("../docs/tower.md")]
pub mod tower_layers {}

#[doc = include_str!("../docs/discovery.md")]
pub mod finding_peers {}

#[cfg(feature = "tls")]
#[doc = include_str!("../docs/tls.md")]
pub mod keys_and_tls {}

#[cfg(feature = "overlay")]
#[doc = include_str!("../docs/thousands.md")]
pub mod thousands_of_nodes {}

#[doc = include_str!("../docs/replication.md")]
pub mod replicating_data {}

#[doc = include_str!("../docs/transports.md")]
pub mod transports {}

/// The items that most programs need: `use coalescent::prelude::*;`.
///
/// It has no name that axum has too, so that both fit into one program. Name these where you need
/// them: `use coalescent::{Router, extract::{Body, State}};`.
pub mod prelude {
    pub use crate::extract::{Shared, Type};
    pub use crate::{
        App, AppExt, Courier, Discovery, Event, Frame, IntoReply, Mesh, MeshExt, MeshRouterExt,
        Message, MessageType, Peer, PeerExt, Plugin, Refusal, Registrar, Reply, SmartRelay,
        Tattletale, Typed, Wire, ends, message_type,
    };
}
