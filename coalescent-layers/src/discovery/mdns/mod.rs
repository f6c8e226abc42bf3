//! Finding peers on the local network, by multicast DNS; requires the feature `mdns`.
//!
//! The plugin [`Mdns`] announces where its node listens, and suggests to the mesh the nodes of the
//! same network that others announce. Whether and when one of them is dialled, the mesh decides.
//!
//! ```
//! use coalescent::{App, AppExt};
//! use coalescent::discovery::mdns::Mdns;
//!
//! # let _ =
//! App::new().network("chess").with(Mdns::new())
//! # ;
//! ```
//!
//! # What is announced
//!
//! The service [`SERVICE`], with the node's id as the name of the instance, and these values:
//!
//! | key | value |
//! |---|---|
//! | `net` | the network name; of a long one the first [`NET_PART`] bytes |
//! | `net2` | the rest of a long network name |
//! | `node` | the node's id, as 32 hexadecimal digits |
//! | `key` | the node's public key, as 64 hexadecimal digits, if the app has an identity |
//!
//! The addresses are those that the node listens at, and
//! [`Config::advertise`](coalescent_core::Config::advertise) if that is an IP address of the local
//! network. A node that does not listen only looks for others.
//!
//! # On which interfaces
//!
//! | the node listens at | interfaces |
//! |---|---|
//! | a loopback address | loopback |
//! | the unspecified address, `0.0.0.0` or `[::]` | all but loopback |
//! | another address | the one that has this address |
//! | nothing, one second after the start | all but loopback |
//!
//! [`Mdns::interface`] overrides this. A multicast group is joined on all interfaces for a moment
//! when the plugin starts, before those that are not meant are left again; no mDNS packet is sent
//! there, and what arrives there is ignored. Interfaces and addresses that appear later are found
//! within some seconds.
//!
//! # Whom it believes
//!
//! Everybody on the local network can announce anything. An announcement therefore only ever leads
//! to a suggestion, of at most [`MAX_ADDRESSES`] addresses, for at most [`MAX_INSTANCES`] instances
//! at a time. With an identity, only instances with a key are suggested, and whoever is dialled
//! must prove to hold it; a node without an identity suggests only those without a key. A loopback
//! address is taken only by a node that speaks on loopback alone, and such a node takes no other.
//! That an instance is gone changes nothing: the mesh forgets addresses that fail. While it knows
//! nobody to dial, all instances that are still announced are suggested again every minute.
//!
//! The crate `mdns-sd` keeps what others have announced, without a limit of its own, in a thread
//! of its own. When it keeps more than [`MAX_RECORDS`] records or [`MAX_TIMERS`] times, or tells of
//! instances faster than they are taken, it is ended, which frees the records, and started again
//! after [`PAUSE`]. This is checked every [`TICK`], so what arrives within that time is limited
//! only by what the thread can read; and while packets arrive faster than it can read them, it does
//! not see that it is to end. No second one is started before it has. Where strangers share the
//! network, choose the interface, or do without this plugin.
//!
//! # When it does not work
//!
//! A node that announces itself hears itself. If it does not within [`HEARD_WITHIN`], because there
//! is no such interface, multicast is not possible there, or a firewall forbids it, this is
//! reported once, and tried again after [`PAUSE`]. The node goes on meanwhile. A node that does not
//! listen does not notice that it cannot hear others.

mod announce;
mod daemon;
mod found;
mod thread;

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::time::Duration;

use coalescent_core::{Plugin, Registrar};
use mdns_sd::MDNS_PORT;

pub use self::found::{MAX_ADDRESSES, MAX_INSTANCES};

/// The type of the service that is announced.
pub const SERVICE: &str = "_coalescent._tcp.local.";

/// The number of bytes of a network name from which on the rest of it is announced apart: a value
/// and its key take at most 255 bytes.
pub const NET_PART: usize = 200;

/// The maximum number of ports that one node announces. Those of further listeners are left out.
pub const MAX_PORTS: usize = 4;

/// The maximum number of records of others that are kept. A node has about five.
pub const MAX_RECORDS: i64 = 8192;

/// The maximum number of times that are kept at which something is to be done with a record. One
/// that is repeated often has many.
pub const MAX_TIMERS: i64 = 8 * MAX_RECORDS;

/// How often the number of kept records is checked, and whether the node listens elsewhere. In this
/// time the thread was seen to take in up to 20 MiB.
pub const TICK: Duration = Duration::from_millis(250);

/// How long a node that does not listen yet waits for it, before it only looks for others.
pub const LISTENS_WITHIN: Duration = Duration::from_secs(1);

/// How long it may take until a node hears what it announces itself.
pub const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// How long a failure lasts at least, before it is tried again.
pub const PAUSE: Duration = Duration::from_secs(60);

/// Finds peers on the local network, see the [module](self).
///
/// ```no_run
/// use coalescent::{App, AppExt};
/// use coalescent::discovery::mdns::Mdns;
///
/// # async fn start() -> Result<(), coalescent::Error> {
/// let app = App::new().network("chess").allow_plaintext();
/// let mesh = app.plugin(Mdns::new().interface("eth0")).listen("0.0.0.0:0").await?;
/// mesh.connected(1).await?; // whoever plays chess on this network
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a plugin does nothing until it is added with `with` or `plugin`"]
pub struct Mdns {
    interfaces: Vec<Interface>,
    port: u16,
}

impl Default for Mdns {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            port: MDNS_PORT,
        }
    }
}

impl Mdns {
    /// Creates the plugin, which speaks on the interfaces that the node listens on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Speaks on this interface, an address or a name, and on no other that is not named too.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// use coalescent::discovery::mdns::Mdns;
    ///
    /// let _ = Mdns::new().interface("eth0").interface(Ipv4Addr::LOCALHOST);
    /// ```
    pub fn interface(mut self, interface: impl Into<Interface>) -> Self {
        self.interfaces.push(interface.into());
        self
    }

    /// Speaks at another UDP port than 5353, with others that do so too. This is for tests, which
    /// then hear no other programs, and not each other. Default: 5353.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

impl Plugin for Mdns {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        let options = self.clone();
        let running = thread::Running::default();
        let ending = running.clone();
        app.spawn(move |mesh| daemon::run(mesh, options, running));
        app.on_shutdown(move |_| ending.stop());
    }
}

/// A network interface: its name, or one of its addresses.
///
/// ```
/// use std::net::IpAddr;
///
/// use coalescent::discovery::mdns::Interface;
///
/// assert_eq!(Interface::from("eth0"), Interface::Name("eth0".into()));
/// assert_eq!(Interface::from("127.0.0.1"), Interface::Addr(IpAddr::from([127, 0, 0, 1])));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interface {
    /// The interface of this name, with all its addresses.
    Name(String),
    /// The interface that has this address, and of its addresses only this one.
    Addr(IpAddr),
}

impl From<&str> for Interface {
    /// Text that is an IP address means the address, other text the name.
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Addr)
    }
}

impl From<String> for Interface {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<IpAddr> for Interface {
    fn from(addr: IpAddr) -> Self {
        Self::Addr(addr)
    }
}

impl From<Ipv4Addr> for Interface {
    fn from(addr: Ipv4Addr) -> Self {
        Self::Addr(addr.into())
    }
}

impl From<Ipv6Addr> for Interface {
    fn from(addr: Ipv6Addr) -> Self {
        Self::Addr(addr.into())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Addr(addr) => addr.fmt(f),
        }
    }
}
