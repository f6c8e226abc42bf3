//! Handlers by message type, with extractors: the router of coalescent.

mod error;
pub mod extract;
mod handle;
mod handler;
mod into_reply;
mod macros;
pub mod middleware;
mod not_found;
mod route;
mod router;
mod service;
mod table;
mod watch;

pub use error::RouteError;
pub use extract::{FromFrame, FromFrameParts};
pub use handle::{RouterExt, RouterHandle};
pub use handler::{Ends, Handler, HandlerFuture, ends};
pub use into_reply::IntoReply;
pub use not_found::NotFound;
pub use route::Route;
pub use router::Router;
pub use service::{ResponseFuture, RouterService};
