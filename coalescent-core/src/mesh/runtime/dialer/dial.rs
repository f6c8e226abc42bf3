//! Making one connection: to one of the addresses of a name at which a peer is.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Seed;
use super::ends::{Met, Taken, is_one_socket, is_within, may_lead_here};
use crate::connection::{Connection, ConnectionInfo, Established, establish};
use crate::error::{BoxError, Error};
use crate::mesh::runtime::Runtime;
use crate::node::peer::Peer;
use crate::transport::address::Address;
use crate::transport::{BoxIo, met_itself};

/// How many addresses of one name may take the connection and turn out to be this node, or an echo
/// of it, before a dial is given up.
const TURNS: usize = 16;

/// How long a connection to where this node listens waits for this node to accept it: longer than
/// newcomers are kept waiting.
const OWN_WAIT: Duration = Duration::from_secs(2);

/// What became of a dial.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) result: Result<Dialled, Error>,
    /// An address that is this node itself, where there was one among those of the name. `result`
    /// is another error like it, if there was nobody else.
    pub(crate) itself: Option<Error>,
}

/// Where a dial led to.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// A peer.
    Peer(Box<(Connection<BoxIo>, Way)>),
    /// A peer that is connected already, and stays so by that connection.
    Already(Peer),
    /// An address to which another connection leads already, until this is cancelled.
    Taken(CancellationToken),
}

/// What is known of a connection's ends; kept as long as the connection.
#[derive(Debug)]
pub(crate) struct Way {
    address: Address,
    there: SocketAddr,
    met: Option<Met>,
    _taken: Option<Taken>,
}

impl Way {
    /// Says so where the connection has turned out to lead back to this node.
    pub(crate) fn itself(&self) -> Option<Error> {
        let itself = self.met.as_ref().is_some_and(Met::itself);
        itself.then(|| Error::itself(&self.address, self.there))
    }
}

/// Why an address is not tried, for the transport to return.
#[derive(Debug)]
struct PassedOver;

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no other address is left to try")
    }
}

impl std::error::Error for PassedOver {}

fn passed_over() -> io::Error {
    io::Error::other(PassedOver)
}

/// Connects to a peer at one of the addresses of `seed`. With `share`, a connection that leads to
/// that address already is enough, where nodes have no numbers.
///
/// An address that turns out to be this node, or that echoes what this node says, is passed over,
/// and the others are tried.
pub(crate) async fn dial(runtime: &Runtime, seed: &Seed, share: bool) -> Dial {
    let mut itself = None;
    let result = search(runtime, seed, share, &mut itself).await;
    Dial { result, itself }
}

async fn search(
    runtime: &Runtime,
    seed: &Seed,
    share: bool,
    itself: &mut Option<Error>,
) -> Result<Dialled, Error> {
    let address = &seed.address;
    runtime.security().check(address)?;
    let mut tried = Vec::new();
    let mut last = None;
    while tried.len() < TURNS {
        let reached = match reach(runtime, address, &tried).await {
            Ok(reached) => reached,
            Err(Unreached::Nobody) => break,
            Err(Unreached::Failed(error)) => return Err(error),
        };
        let there = reached.there;
        let facts = || runtime.dialer().facts();
        last = Some(match meet(runtime, seed, share, reached).await {
            Ok(Meeting::Dialled(dialled)) => {
                facts().forget(there);
                return Ok(dialled);
            }
            Ok(Meeting::Itself) => {
                itself.get_or_insert_with(|| Error::itself(address, there));
                Error::itself(address, there)
            }
            Ok(Meeting::Echo) => Error::echo(address, there),
            Err(error) => {
                facts().note(there, Instant::now());
                return Err(error);
            }
        });
        facts().note(there, Instant::now());
        tried.push(there);
    }
    Err(last.unwrap_or_else(|| Error::dial(address, passed_over())))
}

/// A connection of which nothing is known but its ends.
struct Reached {
    io: BoxIo,
    there: SocketAddr,
    /// Known where the transport tells this end's address.
    met: Option<Met>,
    /// Whether it leads to where this node itself may listen.
    here: bool,
}

enum Unreached {
    /// All addresses were tried before.
    Nobody,
    Failed(Error),
}

/// Makes a connection to an address that is not one of `tried`. Those at which no peer was found a
/// while ago come last.
async fn reach(
    runtime: &Runtime,
    address: &Address,
    tried: &[SocketAddr],
) -> Result<Reached, Unreached> {
    let now = Instant::now();
    let late = Mutex::new(Vec::new());
    let late = || late.lock().unwrap_or_else(PoisonError::into_inner);
    let choose = |there| {
        if tried.contains(&there) {
            return Err(passed_over());
        }
        if runtime.dialer().facts().recall(there, now) {
            late().push(there);
            return Err(passed_over());
        }
        Ok(())
    };
    let first = match connect(runtime, address, &choose).await {
        Ok(reached) => return Ok(reached),
        Err(unreached) => unreached,
    };
    let others = std::mem::take(&mut *late());
    if others.is_empty() {
        return Err(first);
    }
    let choose = |there| match others.contains(&there) {
        true => Ok(()),
        false => Err(passed_over()),
    };
    match (connect(runtime, address, &choose).await, first) {
        (Err(Unreached::Nobody), first) => Err(first),
        (second, _) => second,
    }
}

/// Makes a connection to an address that `choose` lets pass.
async fn connect(
    runtime: &Runtime,
    address: &Address,
    choose: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
) -> Result<Reached, Unreached> {
    let transport = runtime.transport();
    let listening = runtime.addrs();
    let dialling = runtime.dialer().ends().dialling();
    let permit = |there| {
        choose(there)?;
        runtime.security().permit(there).map_err(io::Error::other)?;
        if may_lead_here(&listening, there) {
            dialling.to_here();
        }
        Ok(())
    };
    let limit = runtime.peers().config().connect_timeout;
    let connected = timeout(limit, transport.connect(address, &permit)).await;
    let (io, there) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err(unreached(address, error)),
        Err(_) => return Err(Unreached::Failed(Error::dial_timeout(address, limit))),
    };
    let local = transport.local_addr(&io);
    // A transport of the application's own need not know of it.
    if local.is_some_and(|local| is_one_socket(local, there)) {
        return Err(Unreached::Failed(Error::dial(address, met_itself())));
    }
    Ok(Reached {
        met: local.map(|local| runtime.dialer().ends().dialled(local)),
        here: may_lead_here(&listening, there)
            && local.is_some_and(|local| is_within(local, there)),
        io,
        there,
    })
}

fn unreached(address: &Address, error: io::Error) -> Unreached {
    if error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<PassedOver>)
    {
        return Unreached::Nobody;
    }
    // What we refused ourselves is told as it is.
    Unreached::Failed(match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::dial(address, BoxError::from(error)),
    })
}

/// Who is at the other end of a connection.
enum Meeting {
    Dialled(Dialled),
    Itself,
    /// Somebody who says what this node says.
    Echo,
}

/// Finds out who is at the other end.
async fn meet(
    runtime: &Runtime,
    seed: &Seed,
    share: bool,
    reached: Reached,
) -> Result<Meeting, Error> {
    let Reached {
        io,
        there,
        met,
        here,
    } = reached;
    let itself = || met.as_ref().is_some_and(Met::itself);
    if let Some(met) = met.as_ref().filter(|_| here) {
        // If it does not come in time, a wire with node numbers still tells.
        let _ = timeout(OWN_WAIT, met.met_itself()).await;
    }
    if itself() {
        return Ok(Meeting::Itself);
    }
    let config = runtime.peers().config();
    let wire = seed.wire.as_ref().unwrap_or(&config.wire);
    let mut taken = None;
    if !wire.has_handshake() {
        match runtime.dialer().ends().take(there) {
            Ok(ours) => taken = Some(ours),
            Err(freed) if share => return Ok(Meeting::Dialled(Dialled::Taken(freed))),
            Err(_) => {}
        }
    }
    runtime.tune(&io, Some(wire));
    let address = &seed.address;
    match introduce(runtime, seed, io, there).await {
        Ok(Established::Connected(connection)) => {
            let way = Way {
                address: address.clone(),
                there,
                met,
                _taken: taken,
            };
            let peer = Dialled::Peer(Box::new((connection, way)));
            Ok(Meeting::Dialled(peer))
        }
        Ok(Established::Already(peer)) => Ok(Meeting::Dialled(Dialled::Already(peer))),
        // The side that accepted has found out first, and has closed.
        Ok(Established::Myself) | Err(_) if itself() => Ok(Meeting::Itself),
        Ok(Established::Myself) => Ok(Meeting::Echo),
        Err(error) => Err(error),
    }
}

/// Secures a connection, and introduces this node on it.
async fn introduce(
    runtime: &Runtime,
    seed: &Seed,
    io: BoxIo,
    there: SocketAddr,
) -> Result<Established<BoxIo>, Error> {
    let address = &seed.address;
    let node = runtime.peers().node();
    let limit = node.config().handshake_timeout;
    let secured = timeout(limit, runtime.security().connect(io, address)).await;
    let (io, key) = secured.map_err(|_| Error::handshake_timeout(limit).at(address))??;
    let mut socket = ConnectionInfo::outbound().addr(there);
    socket.wire = seed.wire.clone();
    socket.key = key;
    socket.listen = runtime.advertised();
    let established = establish(io, node, socket, || Ok(())).await;
    established.map_err(|error| error.at(address))
}
