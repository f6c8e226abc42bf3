#![doc = include_str!("../README.md")]

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

#[cfg(feature = "tls")]
#[doc = include_str!("../docs/tls.md")]
pub mod keys_and_tls {}

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
