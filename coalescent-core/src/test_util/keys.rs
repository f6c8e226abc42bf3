//! A network in memory that proves keys.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::transport::address::Address;
use crate::transport::identity::PublicKey;
use crate::transport::{BoxFuture, Connected, Listener, Protection, Transport};

/// The buffer size of each direction of a connection, in bytes.
const PIPE: usize = 64 * 1024;

/// How many connections may wait to be accepted.
const BACKLOG: usize = 128;

/// A network in memory whose nodes are dialled by their keys, at `key:ID`, and whose connections
/// prove the keys of both ends: as over a network such as iroh, but without sockets, and on paused
/// time. Clones share it.
///
/// ```
/// use coalescent::identity::PublicKey;
/// use coalescent::{App, test_util::KeyNetwork};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = KeyNetwork::new();
/// let (alice, bob) = (PublicKey::from_bytes([7; 32])?, PublicKey::from_bytes([8; 32])?);
/// let here = App::new().transport(network.node(alice)).listen("key:").await?;
/// let there = App::new().transport(network.node(bob)).start().await?;
///
/// let peer = there.connect(&format!("key:{alice}")).await?;
/// assert_eq!(peer.id().key(), Some(alice));
/// # drop(here);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeyNetwork(Arc<Mutex<Listening>>);

type Listening = HashMap<PublicKey, (PublicKey, mpsc::Sender<Connected>)>;

impl KeyNetwork {
    /// Creates a separate network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the transport of the node that has this key.
    #[must_use]
    pub fn node(&self, key: PublicKey) -> KeyNode {
        KeyNode {
            network: self.clone(),
            key,
            proves: key,
        }
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node of a [`KeyNetwork`], as a transport of the scheme `key`.
#[derive(Clone, Debug)]
pub struct KeyNode {
    network: KeyNetwork,
    key: PublicKey,
    proves: PublicKey,
}

impl KeyNode {
    /// Has connections prove this key, in place of the one by which the node is dialled: as if
    /// somebody answered in its place.
    #[must_use]
    pub fn proving(mut self, key: PublicKey) -> Self {
        self.proves = key;
        self
    }
}

impl Transport for KeyNode {
    fn schemes(&self) -> &[&str] {
        &["key"]
    }

    fn protection(&self, _scheme: &str) -> Protection {
        Protection::Keys
    }

    fn key(&self) -> Option<PublicKey> {
        Some(self.proves)
    }

    fn listen<'a>(&'a self, _addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address = format!("key:{}", self.key);
            let address = address.parse().map_err(io::Error::other)?;
            let (sender, receiver) = mpsc::channel(BACKLOG);
            let mut listening = self.network.listening();
            let taken = listening.get(&self.key).is_some_and(|at| !at.1.is_closed());
            if taken {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            listening.insert(self.key, (self.proves, sender));
            Ok(Box::new(KeyListener { address, receiver }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        _permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let key = addr.id().ok_or(io::ErrorKind::InvalidInput)?;
            let at = self.network.listening().get(&key).cloned();
            let (proven, sender) = at.ok_or_else(refused)?;
            let (ours, theirs) = tokio::io::duplex(PIPE);
            let theirs = Connected::new(theirs).key(self.proves);
            sender.send(theirs).await.map_err(|_| refused())?;
            Ok(Connected::new(ours).key(proven))
        })
    }
}

#[derive(Debug)]
struct KeyListener {
    address: Address,
    receiver: mpsc::Receiver<Connected>,
}

impl Listener for KeyListener {
    fn address(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            match self.receiver.recv().await {
                Some(connected) => Ok(connected),
                // The network was dropped, so no connection will ever arrive.
                None => std::future::pending().await,
            }
        })
    }
}
