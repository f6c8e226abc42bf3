//! An Express-like framework for peer-to-peer applications, on tower.

#[doc(inline)]
pub use coalescent_core::*;
#[doc(inline)]
pub use coalescent_layers::*;

/// What most programs use: `use coalescent::prelude::*;`.
pub mod prelude {
    pub use crate::{
        App, AppExt, Courier, Error, Event, Frame, Mesh, MeshExt, Message, Peer, PeerExt,
        SmartRelay, Tattletale,
    };
}
