//! Plugins that were added as layers only, and so do not work.

use crate::error::Error;
use crate::node::layered::is_among;

/// The types that do nothing, or only half of their work, if they are added as a layer and not
/// registered. They are named by their paths, since this crate does not depend on theirs.
const NEEDING: [&str; 7] = [
    "coalescent_layers::smart_relay::layer::SmartRelay",
    "coalescent_layers::discovery::Discovery",
    "coalescent_layers::discovery::book::plugin::AddressBook",
    "coalescent_layers::discovery::exchange::Exchange",
    "coalescent_layers::discovery::mdns::Mdns",
    "coalescent_layers::overlay::Overlay",
    "coalescent_layers::streams::Streams",
];

/// Returns an error for each type in the stack of layers, given by its name, that should have been
/// registered and was not.
pub(super) fn unregistered(stack: &str, registered: &[&str]) -> Vec<Error> {
    NEEDING
        .iter()
        .filter(|path| is_among(stack, path) && !registered.contains(path))
        .map(|path| {
            let name = path.rsplit("::").next().unwrap_or(path);
            Error::plugin(format!(
                "`{name}` is in the stack, but was added with `.layer`, which does not register it: \
                 use `.with(..)`"
            ))
        })
        .collect()
}
