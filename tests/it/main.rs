//! The integration tests of the whole framework, one module for each subject.

mod adopt;
mod blame;
mod documents;
mod facade;
mod faults;
mod generated;
mod hostile_ws;
mod javascript;
#[cfg(feature = "tls")]
mod keys;
#[cfg(feature = "tls")]
mod liars;
mod mesh_of_30;
mod meshcat;
mod meshcat_arguments;
mod meshcat_end;
mod meshcat_events;
mod meshcat_overlay;
mod meshcat_streams;
#[cfg(feature = "tls")]
mod meshcat_tls;
#[cfg(feature = "metrics")]
mod metrics;
mod npm_courier;
mod npm_leave;
mod npm_raw;
mod npm_relay;
mod npm_self;
mod npm_values;
mod once;
mod one_port;
mod original;
mod original_app;
mod proxy;
mod requests;
mod send_file;
#[cfg(feature = "tls")]
mod signed;
mod simulation;
#[cfg(all(feature = "metrics", feature = "tls"))]
mod sockets;
mod store;
mod stream;
mod swarm;
#[cfg(feature = "overlay")]
mod topics;
mod tower_layers;
mod upgrade;
#[cfg(all(feature = "metrics", feature = "tls"))]
mod web;
#[cfg(all(feature = "metrics", feature = "tls"))]
mod web_limits;
mod websocket;
mod ws;
