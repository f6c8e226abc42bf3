//! Relaying all that peers say, each frame once, in meshes with circles.

mod layer;
mod seen;
mod service;

pub use self::{
    layer::{SeenStats, SmartRelay},
    seen::{CAPACITY, CONTENT_TTL, TTL},
    service::{ResponseFuture, SmartRelayService},
};
