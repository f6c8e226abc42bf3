//! One dial: a connection to one of the addresses of a name, at which a peer is.
//!
//! [`dial`] opens a connection ([`open`]), finds out who is at its other end ([`identify`]), and
//! tries the next address if that is this node itself or an echo.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Seed;
use super::addresses::{is_one_socket, is_within, may_lead_here};
use super::claims::Claim;
use super::self_check::SelfCheck;
use crate::connection::{Connection, ConnectionInfo, Established, establish};
use crate::error::{BoxError, Error};
use crate::mesh::runtime::Runtime;
use crate::node::peer::Peer;
use crate::transport::address::Address;
use crate::transport::{BoxIo, met_itself};

/// How many addresses of one name may accept the connection and turn out to be this node, or an
/// echo of it, before the dial is given up.
const ATTEMPTS: usize = 16;

/// How long a connection to an address at which this node may listen waits for this node to accept
/// it: 2 s, longer than newcomers are kept waiting.
const OWN_WAIT: Duration = Duration::from_secs(2);

/// The result of a dial.
#[derive(Debug)]
pub(crate) struct DialResult {
    pub(crate) result: Result<Dialled, Error>,
    /// The error to report if this node itself was at one of the addresses. If nobody else was at
    /// another, `result` is such an error too.
    pub(crate) itself: Option<Error>,
}

/// What a successful dial led to.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// A new connection to a peer.
    Peer(Box<(Connection<BoxIo>, DialGuard)>),
    /// A peer that is connected already, and remains so by its other connection.
    Already(Peer),
    /// An address to which another connection leads. The token is cancelled when that one ends.
    Claimed(CancellationToken),
}

/// What is held as long as a dialled connection is open.
#[derive(Debug)]
pub(crate) struct DialGuard {
    address: Address,
    there: SocketAddr,
    self_check: Option<SelfCheck>,
    _claim: Option<Claim>,
}

impl DialGuard {
    /// Returns the error to report if the connection has turned out to lead back to this node.
    pub(crate) fn itself(&self) -> Option<Error> {
        let itself = self.self_check.as_ref().is_some_and(SelfCheck::is_itself);
        itself.then(|| Error::itself(&self.address, self.there))
    }
}

/// Dials `seed`, at one of its addresses after another.
///
/// An address that turns out to be this node, or that echoes what this node sends, is skipped.
/// `share` is about wires without node numbers: if another connection leads to the address already,
/// no second one is made.
pub(crate) async fn dial(runtime: &Runtime, seed: &Seed, share: bool) -> DialResult {
    let mut itself = None;
    let result = find_peer(runtime, seed, share, &mut itself).await;
    DialResult { result, itself }
}

async fn find_peer(
    runtime: &Runtime,
    seed: &Seed,
    share: bool,
    itself: &mut Option<Error>,
) -> Result<Dialled, Error> {
    let address = &seed.address;
    runtime.security().check(address)?;
    let mut tried = Vec::new();
    let mut last = None;
    while tried.len() < ATTEMPTS {
        let opened = match open(runtime, address, &tried).await {
            Ok(opened) => opened,
            Err(NotOpened::Exhausted) => break,
            Err(NotOpened::Failed(error)) => return Err(error),
        };
        let there = opened.there;
        let dead_ends = || runtime.dialer().dead_ends();
        last = Some(match identify(runtime, seed, share, opened).await {
            Ok(OtherEnd::Dialled(dialled)) => {
                dead_ends().remove(there);
                return Ok(dialled);
            }
            Ok(OtherEnd::Itself) => {
                itself.get_or_insert_with(|| Error::itself(address, there));
                Error::itself(address, there)
            }
            Ok(OtherEnd::Echo) => Error::echo(address, there),
            Err(error) => {
                dead_ends().insert(there, Instant::now());
                return Err(error);
            }
        });
        dead_ends().insert(there, Instant::now());
        tried.push(there);
    }
    Err(last.unwrap_or_else(|| Error::dial(address, skipped())))
}

/// An open connection, of which only the addresses of its ends are known.
struct Opened {
    io: BoxIo,
    there: SocketAddr,
    /// `None` if the transport does not tell the local address.
    self_check: Option<SelfCheck>,
    /// Whether it may lead to this node itself.
    may_lead_here: bool,
}

enum NotOpened {
    /// No address is left to try.
    Exhausted,
    Failed(Error),
}

/// The error that makes a transport try another address.
#[derive(Debug)]
struct Skipped;

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no other address is left to try")
    }
}

impl std::error::Error for Skipped {}

fn skipped() -> io::Error {
    io::Error::other(Skipped)
}

/// Opens a connection to an address that is not in `tried`. Dead ends are tried last.
async fn open(
    runtime: &Runtime,
    address: &Address,
    tried: &[SocketAddr],
) -> Result<Opened, NotOpened> {
    let now = Instant::now();
    let postponed = Mutex::new(Vec::new());
    let postponed = || postponed.lock().unwrap_or_else(PoisonError::into_inner);
    let choose = |there| {
        if tried.contains(&there) {
            return Err(skipped());
        }
        if runtime.dialer().dead_ends().contains(there, now) {
            postponed().push(there);
            return Err(skipped());
        }
        Ok(())
    };
    let first = match connect(runtime, address, &choose).await {
        Ok(opened) => return Ok(opened),
        Err(not_opened) => not_opened,
    };
    let postponed = std::mem::take(&mut *postponed());
    if postponed.is_empty() {
        return Err(first);
    }
    let choose = |there| match postponed.contains(&there) {
        true => Ok(()),
        false => Err(skipped()),
    };
    match (connect(runtime, address, &choose).await, first) {
        (Err(NotOpened::Exhausted), first) => Err(first),
        (second, _) => second,
    }
}

/// Opens a connection to an address that `choose` accepts.
async fn connect(
    runtime: &Runtime,
    address: &Address,
    choose: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
) -> Result<Opened, NotOpened> {
    let transport = runtime.transport();
    let listening = runtime.addrs();
    let dialling = runtime.dialer().self_checks().dialling();
    let permit = |there| {
        choose(there)?;
        runtime.security().permit(there).map_err(io::Error::other)?;
        if may_lead_here(&listening, there) {
            dialling.may_lead_here();
        }
        Ok(())
    };
    let limit = runtime.peers().config().connect_timeout;
    let connected = timeout(limit, transport.connect(address, &permit)).await;
    let (io, there) = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err(not_opened(address, error)),
        Err(_) => return Err(NotOpened::Failed(Error::dial_timeout(address, limit))),
    };
    let local = transport.local_addr(&io);
    // The built-in transports check this themselves; one of the application's may not.
    if local.is_some_and(|local| is_one_socket(local, there)) {
        return Err(NotOpened::Failed(Error::dial(address, met_itself())));
    }
    Ok(Opened {
        self_check: local.map(|local| runtime.dialer().self_checks().dialled(local)),
        may_lead_here: may_lead_here(&listening, there)
            && local.is_some_and(|local| is_within(local, there)),
        io,
        there,
    })
}

fn not_opened(address: &Address, error: io::Error) -> NotOpened {
    if error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Skipped>)
    {
        return NotOpened::Exhausted;
    }
    // An error of our own, from `permit`, is returned as it is.
    NotOpened::Failed(match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::dial(address, BoxError::from(error)),
    })
}

/// Who is at the other end of a connection.
enum OtherEnd {
    Dialled(Dialled),
    Itself,
    /// Something that sends back what this node sends.
    Echo,
}

/// Finds out who is at the other end of a connection.
async fn identify(
    runtime: &Runtime,
    seed: &Seed,
    share: bool,
    opened: Opened,
) -> Result<OtherEnd, Error> {
    let Opened {
        io,
        there,
        self_check,
        may_lead_here,
    } = opened;
    let is_itself = || self_check.as_ref().is_some_and(SelfCheck::is_itself);
    if let Some(self_check) = self_check.as_ref().filter(|_| may_lead_here) {
        // On a timeout, a wire with node numbers still finds out.
        let _ = timeout(OWN_WAIT, self_check.found_itself()).await;
    }
    if is_itself() {
        return Ok(OtherEnd::Itself);
    }
    let wire = seed.wire.as_ref();
    let wire = wire.unwrap_or(&runtime.peers().config().wire);
    let mut claim = None;
    if !wire.has_handshake() {
        match runtime.dialer().claims().claim(there) {
            Ok(ours) => claim = Some(ours),
            Err(released) if share => return Ok(OtherEnd::Dialled(Dialled::Claimed(released))),
            Err(_) => {}
        }
    }
    runtime.tune(&io, Some(wire));
    match introduce(runtime, seed, io, there).await {
        Ok(Established::Connected(connection)) => {
            let guard = DialGuard {
                address: seed.address.clone(),
                there,
                self_check,
                _claim: claim,
            };
            let peer = Dialled::Peer(Box::new((connection, guard)));
            Ok(OtherEnd::Dialled(peer))
        }
        Ok(Established::Already(peer)) => Ok(OtherEnd::Dialled(Dialled::Already(peer))),
        // If this node's accepting side finds out first, it closes the connection.
        Ok(Established::Myself) | Err(_) if is_itself() => Ok(OtherEnd::Itself),
        Ok(Established::Myself) => Ok(OtherEnd::Echo),
        Err(error) => Err(error),
    }
}

/// Secures a dialled connection, and performs the handshake on it.
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
    let mut info = ConnectionInfo::outbound().addr(there);
    info.wire = seed.wire.clone();
    info.key = key;
    info.listen = runtime.advertised();
    let established = establish(io, node, info, || Ok(())).await;
    established.map_err(|error| error.at(address))
}
