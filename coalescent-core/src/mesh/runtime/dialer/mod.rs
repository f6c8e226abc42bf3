//! Dialling: staying connected to seeds, and to peers at addresses that were suggested.
//!
//! | file | what it does |
//! |---|---|
//! | [`plan`], [`places`], [`due`], [`pool`] | decide whom to dial when |
//! | [`entry`], [`backoff`], [`budget`] | are parts of that |
//! | [`apart`] | what it does for a plugin that chooses peers itself |
//! | [`outbound`] | counts contacts |
//! | [`handle`], [`shared`] | the plan, as shared by all who tell it something |
//! | [`task`] | dials what the plan says, and tells it the results |
//! | [`mod@dial`] | makes one connection |
//! | [`walk`] | opens connections to the addresses of one name |
//! | [`connect`], [`contact`], [`suggest`] | what the application asks for |
//! | [`probe`], [`wanted`] | what is told to it |
//! | [`self_check`] | finds connections that lead back to this node |
//! | [`claims`] | finds seeds that resolve to the same address |
//! | [`dead_ends`] | remembers addresses at which no peer was found |
//! | [`recent`] | remembers which addresses were told, and which are this node's |
//! | [`addresses`] | compares addresses |

mod addresses;
mod apart;
mod backoff;
mod budget;
mod claims;
mod connect;
mod contact;
mod dead_ends;
mod dial;
mod due;
mod entry;
mod handle;
mod outbound;
mod places;
mod plan;
mod pool;
mod probe;
mod recent;
mod seed;
mod self_check;
mod shared;
mod suggest;
mod task;
mod walk;
mod wanted;

pub(crate) use addresses::is_within;
pub use handle::DISCOVERED_MAX;
pub(crate) use handle::Dialer;
pub use probe::Probe;
pub(crate) use seed::Seed;
pub(crate) use self_check::{Here, SelfCheck};
pub use shared::OneMore;
pub use wanted::Wanted;
