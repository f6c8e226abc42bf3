//! Peers of coalescent over [iroh](https://docs.rs/iroh): dialled by their public key, through
//! NATs, directly where a way is found and else through a relay.
//!
//! ```
//! use coalescent::App;
//! use coalescent_iroh::{Iroh, Quiet};
//! use iroh::Endpoint;
//!
//! # async fn node() -> Result<(), Box<dyn std::error::Error>> {
//! let iroh = Iroh::new(Endpoint::bind(Quiet).await?);
//! println!("others find this node at {}", iroh.address());
//! let mesh = App::new()
//!     .transport(iroh)
//!     .seeds(["iroh:ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6\
//!              ?relay=https://relay.example"])
//!     .listen("iroh:")
//!     .await?;
//! # Ok(())
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() { node().await.unwrap() }
//! ```
//!
//! The endpoint is yours: [`Iroh::new`] takes it as you have built it, and its key becomes the key
//! of the node. There is no TLS of coalescent inside: iroh's handshake proves the keys of both
//! ends, so that [allow lists](coalescent_core::Mesh::allow), [bans](coalescent_core::Mesh::ban)
//! and limits go by key. No port needs to be open, and an app may have other transports besides;
//! [`load_or_generate`] gives it the same key over TLS.
//!
//! # Addresses
//!
//! `iroh:ID` is the key of a peer, as 64 hexadecimal digits. iroh must learn from somewhere where
//! that peer is:
//!
//! | source | write |
//! |---|---|
//! | a relay that the peer is connected to | `iroh:ID?relay=https://relay.example` |
//! | the relay of the endpoint itself, where all nodes share one, once [`online`] | `iroh:ID` |
//! | a socket address | `iroh:ID?addr=198.51.100.7:4433` |
//! | an address lookup of the endpoint, such as a [`MemoryLookup`] that you fill | `iroh:ID` |
//!
//! Up to [`MAX_HINTS`] hints can be joined, as in `?addr=..&addr=..&relay=..`. They are hints: the
//! key decides who is a peer, and the two ends tell each other further addresses once they are
//! connected. A peer that changes its port or its network stays connected; one that has been away
//! is redialled as any other.
//!
//! # Through NATs
//!
//! Two nodes behind routers that let nothing in meet at a relay. From there they find a direct way,
//! on which their connection outlives the relay, if both routers keep a host's port whatever it
//! sends to. For that the relay must tell each of them from which address it sends. `iroh-relay`
//! does so over QUIC, with `enable_quic_addr_discovery = true` in its configuration, a certificate
//! for TLS, and UDP port 7842 open; by default it does not. A certificate that no authority has
//! signed is trusted with iroh's [`Builder::ca_tls_config`], as the example `chat` does.
//!
//! Where a router chooses another port for each destination, the relay goes on carrying all. Who
//! finds a direct way learns the other's address; an endpoint [without sockets] is reached by its
//! relay alone.
//!
//! # Who is talked to
//!
//! Nobody, but those whom you name: build the endpoint with [`Quiet`], or with iroh's `Minimal`. It
//! then knows no relay and no lookup, and asks no name server unless a relay of yours has a name.
//! iroh's preset `N0` publishes the endpoint's key and addresses to servers of its makers, and so
//! does `N0DisableRelay`: use these only if you want that.
//!
//! A relay sees which keys talk to each other, when, and how much; what is said is encrypted from
//! end to end. Run your own with the crate `iroh-relay`.
//!
//! # What crosses the connection
//!
//! QUIC with the protocol name `coalescent/1` ([`ALPN`]), and on it one bidirectional stream, which
//! the side that dialled opens with a zero byte: QUIC announces a stream with its first byte, and
//! on some wires the other side speaks first. After this byte both directions are the wire of
//! coalescent. Further streams and datagrams are not allowed. The end of the stream is the end of
//! the connection, which is closed with code 0 once the other side has received all; a connection
//! whose stream begins with another byte is closed with code 1.
//!
//! # Bounds
//!
//! - A connection holds [`WINDOW`] bytes that the application has not read, and as many that the
//!   peer has not acknowledged, beside what coalescent holds.
//! - [`MAX_OPENING`] peers may be in the handshake, each for [`OPENING_TIMEOUT`]. From [`CROWDED`]
//!   on, newcomers must first prove their address. The oldest gives way to a newcomer.
//! - [`MAX_LINGERING`] connections that have ended go on sending, each for [`LINGER`].
//! - A dial takes [`DIAL_TIMEOUT`].
//!
//! After [`Mesh::shutdown`](coalescent_core::Mesh::shutdown), call
//! [`Endpoint::close`](iroh::Endpoint::close), so that the other ends know at once that the
//! connections are over.
//!
//! [`Builder::ca_tls_config`]: iroh::endpoint::Builder::ca_tls_config
//! [`MemoryLookup`]: iroh::address_lookup::memory::MemoryLookup
//! [`online`]: iroh::Endpoint::online
//! [without sockets]: iroh::endpoint::Builder::clear_ip_transports

#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod key_file;
mod listener;
mod opening;
mod place;
mod quiet;
mod stream;
mod transport;

pub use key_file::load_or_generate;
pub use listener::{CROWDED, MAX_OPENING};
pub use opening::{OPENING_TIMEOUT, WINDOW};
pub use place::MAX_HINTS;
pub use quiet::Quiet;
pub use stream::{LINGER, MAX_LINGERING};
pub use transport::{DIAL_TIMEOUT, Iroh};

/// The protocol name of the connections.
pub const ALPN: &[u8] = b"coalescent/1";

/// The scheme of the addresses.
pub const SCHEME: &str = "iroh";

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
