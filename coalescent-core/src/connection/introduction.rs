//! What a node says of itself in its HELLO, and what it makes of a peer's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::config::Config;
use crate::error::Error;
use crate::node::Node;
use crate::node::hooks::Hooks;
use crate::wire::{Hello, MAX_FRAME_CEILING, NodeId};

/// Returns the introduction of this node to a peer that it sees at `there`.
pub(super) fn own_hello(node: &Node, listen: Option<String>, there: Option<SocketAddr>) -> Hello {
    Hello {
        node: node.id(),
        listen,
        seen: there.map(|there| canonical(there).to_string()),
        ..hello_of(node.config(), node.hooks())
    }
}

/// Returns the parts of the introduction that do not depend on the connection.
fn hello_of(config: &Config, hooks: &Hooks) -> Hello {
    Hello {
        agent: config.agent.clone(),
        max: u32::try_from(config.max_frame.min(MAX_FRAME_CEILING)).ok(),
        channels: hooks
            .channel_names()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..Hello::new(NodeId::from_bytes([0; 16]), config.network.clone())
    }
}

/// Checks that the introduction of a node fits into a HELLO, whoever it is sent to.
///
/// # Errors
///
/// [`is_config`](Error::is_config) if it does not.
pub(crate) fn check_hello(config: &Config, hooks: &Hooks) -> Result<(), Error> {
    let longest = SocketAddrV6::new(Ipv6Addr::from([0xff; 16]), u16::MAX, 0, u32::MAX);
    let hello = Hello {
        listen: Some(
            config
                .advertise
                .clone()
                .unwrap_or_else(|| ":65535".to_owned()),
        ),
        seen: Some(longest.to_string()),
        ..hello_of(config, hooks)
    };
    let encoded = hello.encode();
    encoded
        .map(drop)
        .map_err(|error| Error::config(error.to_string()))
}

/// Returns an address as it is written without IPv6 around IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        IpAddr::V6(_) => addr,
    }
}

/// Returns the address at which a peer says that it can be dialled. Where it names only a port, the
/// host is the one that it is seen at, `there`.
pub(super) fn dialable(listen: String, there: Option<SocketAddr>) -> Option<String> {
    let Some(port) = listen.strip_prefix(':') else {
        return Some(listen);
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let mut there = canonical(there?);
    there.set_port(port);
    Some(there.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::hooks::Channel;

    #[test]
    fn a_port_alone_is_at_the_address_that_is_seen() {
        let there = |addr: &str| Some(addr.parse().expect("an address"));
        let dialable = |listen: &str, there| dialable(listen.to_owned(), there);
        for (listen, seen, expected) in [
            (":7", "192.0.2.1:99", Some("192.0.2.1:7")),
            (":7", "[2001:db8::1]:99", Some("[2001:db8::1]:7")),
            (":7", "[::ffff:192.0.2.1]:99", Some("192.0.2.1:7")),
            ("host:7", "192.0.2.1:99", Some("host:7")),
            (":0", "192.0.2.1:99", None),
            (":x", "192.0.2.1:99", None),
            (":70000", "192.0.2.1:99", None),
            (":", "192.0.2.1:99", None),
        ] {
            assert_eq!(
                dialable(listen, there(seen)).as_deref(),
                expected,
                "{listen}"
            );
        }
        assert_eq!(dialable(":7", None), None);
        assert_eq!(dialable("host:7", None).as_deref(), Some("host:7"));
    }

    #[test]
    fn the_longest_introduction_is_checked() {
        let mut config = Config::default();
        assert!(check_hello(&config, &Hooks::default()).is_ok());
        config.network = "n".repeat(256);
        config.agent = "a".repeat(128);
        config.advertise = Some("l".repeat(256));
        assert!(check_hello(&config, &Hooks::default()).is_ok());
        let mut hooks = Hooks::default();
        for number in 0..16 {
            let name = format!("{number:032}");
            hooks.channels.push(Channel::new(name, |_, _| async {}));
        }
        assert!(check_hello(&config, &hooks).unwrap_err().is_config());
    }
}
