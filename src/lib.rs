// Where the README's links to files lead in the documentation: of two definitions the first counts.
//! [docs/discovery.md]: crate::finding_peers
//! [docs/tower.md]: crate::tower_layers
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

#[doc(inline)]
pub use coalescent_core::*;
#[doc(inline)]
pub use coalescent_layers::*;
#[doc(inline)]
pub use coalescent_router::*;

#[cfg(feature = "upgrade")]
pub mod upgrade;

#[cfg(feature = "websocket")]
pub mod websocket;

#[doc = include_str!("../docs/tower.md")]
pub mod tower_layers {}

#[doc = include_str!("../docs/discovery.md")]
pub mod finding_peers {}

#[cfg(feature = "overlay")]
#[doc = include_str!("../docs/thousands.md")]
pub mod thousands_of_nodes {}

#[doc = include_str!("../docs/transports.md")]
pub mod transports {}

/// The items that most programs need: `use coalescent::prelude::*;`.
pub mod prelude {
    pub use crate::extract::{Body, Extension, Shared, State, Type};
    pub use crate::{
        App, AppExt, Courier, Discovery, Event, Frame, IntoReply, Mesh, MeshExt, Message,
        MessageType, Peer, PeerExt, Plugin, Refusal, Registrar, Reply, Router, RouterExt,
        SmartRelay, Tattletale, Typed, Wire, ends, message_type,
    };
}
