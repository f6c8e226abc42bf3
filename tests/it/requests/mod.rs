//! Requests to peers: as verbs, as tower services, and spread over the mesh.

mod balance;
mod errors;
mod middleware;
mod support;
