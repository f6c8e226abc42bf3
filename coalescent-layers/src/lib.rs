//! Tattletale, SmartRelay and Courier: the layers of coalescent.

mod after;
pub mod courier;
pub mod smart_relay;
pub mod tattletale;

#[doc(inline)]
pub use self::{
    courier::{Courier, MeshExt, PeerExt},
    smart_relay::SmartRelay,
    tattletale::Tattletale,
};

/// Puts an unready clone in the place of a service that was made ready and is not called, so that what
/// readiness holds (a permit of a limit that others share) is free again.
fn release<S: Clone>(ready: &mut S) {
    let unready = ready.clone();
    drop(std::mem::replace(ready, unready));
}
