//! Messages: a type and a body, in place of bytes.

mod layer;
mod service;
mod verbs;

pub use self::{
    layer::Courier,
    service::{CourierService, ResponseFuture},
    verbs::{MeshExt, PeerExt},
};
