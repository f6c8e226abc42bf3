//! The transport of coalescent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use coalescent_core::Address;
use coalescent_core::identity::PublicKey;
use coalescent_core::transport::{BoxFuture, Connected, Listener, Protection, Transport};
use iroh::{Endpoint, Watcher};
use tokio::time::timeout;

use crate::error::DialError;
use crate::listener::Accepting;
use crate::opening::Opening;
use crate::place::Place;
use crate::{ALPN, SCHEME};

/// How long a dial waits for an answer: 9 seconds, a little less than the default of
/// `Config::connect_timeout`, so that the error can say where the peer was looked for.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(9);

/// A transport for addresses `iroh:ID`. Clones share the endpoint.
///
/// Listen at `iroh:`. See the [crate's documentation](crate) for the addresses to dial.
///
/// ```
/// use coalescent::App;
/// use coalescent_iroh::{Iroh, Quiet};
/// use iroh::Endpoint;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let iroh = Iroh::new(Endpoint::builder(Quiet).bind().await?);
/// let address = iroh.address();
/// let mesh = App::new().transport(iroh.clone()).listen("iroh:").await?;
/// assert_eq!(mesh.local_addresses()[0].to_string(), address);
/// let key = mesh.public_key().ok_or("iroh proves keys")?;
/// assert_eq!(address, format!("iroh:{key}"));
///
/// mesh.shutdown().await;
/// iroh.endpoint().close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Iroh {
    opening: Opening,
}

impl Iroh {
    /// Makes a transport of an endpoint, whose key becomes that of the node.
    ///
    /// Listening sets the protocols that the endpoint accepts to [`ALPN`] alone, and takes all
    /// connections that it accepts.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            opening: Opening::new(endpoint),
        }
    }

    /// Returns the endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        self.opening.endpoint()
    }

    /// Returns the address of this node, `iroh:ID`.
    pub fn address(&self) -> String {
        format!("{SCHEME}:{}", self.endpoint().id())
    }

    async fn dial(
        &self,
        addr: &Address,
        permit: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> io::Result<Connected> {
        let key = addr.id().ok_or_else(|| invalid("write iroh:ID"))?;
        let place = Place::parse(key.as_bytes(), addr.path())?;
        let mut permitted = Vec::new();
        let mut refused = None;
        for &direct in &place.direct {
            match permit(direct) {
                Ok(()) => permitted.push(direct),
                Err(error) => refused = Some(error),
            }
        }
        if permitted.is_empty()
            && place.relays.is_empty()
            && let Some(error) = refused
        {
            return Err(error);
        }
        let home = self.endpoint().home_relay_status().get();
        let home: Vec<_> = home.into_iter().map(|relay| relay.url().clone()).collect();
        let there = place.to_endpoint(permitted, &home);
        let dialled = timeout(DIAL_TIMEOUT, self.opening.dial(there.clone())).await;
        let dialled = dialled.unwrap_or(Err(DialError::Silence));
        let stream = dialled.map_err(|error| error.explain(&there))?;
        Ok(Connected::new(Box::new(stream)).key(public_key(place.id)?))
    }
}

impl Transport for Iroh {
    fn schemes(&self) -> &[&str] {
        &[SCHEME]
    }

    fn protection(&self, _: &str) -> Protection {
        Protection::Keys
    }

    fn key(&self) -> Option<PublicKey> {
        public_key(self.endpoint().id()).ok()
    }

    /// Listens at the endpoint. The address is `iroh:`, or with the endpoint's own key `iroh:ID`.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let own = self.address();
            if !own.eq_ignore_ascii_case(addr) && addr != "iroh:" {
                return Err(invalid(format!("this endpoint is {own}")));
            }
            let endpoint = self.endpoint();
            if endpoint.is_closed() {
                return Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    crate::error::closed(),
                ));
            }
            endpoint.set_alpns(vec![ALPN.to_vec()]);
            let address = own.parse().map_err(io::Error::other)?;
            let accepting = Accepting::new(self.opening.clone());
            Ok(Box::new(IrohListener { address, accepting }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(self.dial(addr, permit))
    }
}

/// Accepts the peers that dial the endpoint's key.
struct IrohListener {
    address: Address,
    accepting: Accepting,
}

impl Listener for IrohListener {
    fn address(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let arrival = self.accepting.next().await?;
            let mut connected =
                Connected::new(Box::new(arrival.stream)).key(public_key(arrival.key)?);
            if let Some(addr) = arrival.addr {
                connected = connected.addr(addr);
            }
            Ok(connected)
        })
    }
}

fn public_key(id: iroh::EndpointId) -> io::Result<PublicKey> {
    PublicKey::from_bytes(*id.as_bytes()).map_err(io::Error::other)
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem.into())
}
