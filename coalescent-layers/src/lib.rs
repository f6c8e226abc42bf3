//! Tattletale, SmartRelay and Courier: the layers of coalescent.

// The relay that uses this is not here yet.
#[allow(dead_code)]
mod smart_relay;
