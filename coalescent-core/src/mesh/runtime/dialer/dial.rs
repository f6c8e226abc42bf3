//! One dial: a connection to one of the addresses of a name, at which a peer is.
//!
//! [`dial`] opens a connection ([`Walk`]), finds out who is at its other end ([`identify`]), and
//! tries the next address if that is this node itself, an echo, or no peer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::claims::Claim;
use super::probe::Probe;
use super::seed::Seed;
use super::self_check::SelfCheck;
use super::walk::{Opened, Walk, shown};
use crate::connection::{Connection, ConnectionInfo, Established, establish, probe};
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::peer::seat::Seat;
use crate::node::peer::{Introduction, Peer};
use crate::transport::address::{Address, TCP};
use crate::transport::group::NetGroup;
use crate::transport::{BoxIo, Connected, Protection};
use crate::wire::Wire;

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
    /// The address to which the last connection was opened.
    pub(crate) there: Option<SocketAddr>,
    /// A group of which an address was not used, because another peer of that group is connected.
    pub(crate) full_group: Option<NetGroup>,
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

/// What a dial is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A connection that the application asks for: one is made even if another leads to the address
    /// already, on wires without node numbers.
    Asked,
    /// A place that the plan is to fill.
    Planned,
    /// A contact, counted by this seat. `told` says where the peer is that has told the address.
    Contact {
        seat: Arc<dyn Seat>,
        told: Option<Option<IpAddr>>,
    },
}

/// What is held as long as a dialled connection is open.
#[derive(Debug)]
pub(crate) struct DialGuard {
    address: Address,
    there: Option<SocketAddr>,
    self_check: Option<SelfCheck>,
    _claim: Option<Claim>,
}

impl DialGuard {
    /// Returns the error to report if the connection has turned out to lead back to this node.
    pub(crate) fn itself(&self) -> Option<Error> {
        let itself = self.self_check.as_ref().is_some_and(SelfCheck::is_itself);
        itself.then(|| Error::itself(&self.address, shown(self.there)))
    }
}

/// Dials `seed`, at one of its addresses after another.
///
/// An address that turns out to be this node, or that echoes what this node sends, is skipped; so
/// are a few at which the handshake fails.
pub(super) async fn dial(runtime: &Runtime, seed: &Seed, purpose: &Purpose) -> DialResult {
    let mut walk = Walk::new(runtime, seed);
    if let Purpose::Contact { told, .. } = purpose {
        walk.for_contact(*told);
    }
    let result = find_peer(&mut walk, runtime, seed, purpose).await;
    let full_group = *walk.full_group();
    DialResult {
        result,
        there: walk.last(),
        full_group,
        itself: walk.itself,
    }
}

async fn find_peer(
    walk: &mut Walk<'_>,
    runtime: &Runtime,
    seed: &Seed,
    purpose: &Purpose,
) -> Result<Dialled, Error> {
    loop {
        let opened = walk.next().await?;
        let there = opened.there;
        match identify(runtime, seed, purpose, opened).await {
            Ok(OtherEnd::Peer(dialled)) => {
                walk.found(there);
                return Ok(dialled);
            }
            Ok(OtherEnd::Itself) => walk.found_itself(there),
            Ok(OtherEnd::Echo) => walk.found_echo(there),
            Err(error) => walk.failed(there, error),
        }
    }
}

/// Asks who is at one of the addresses of `seed`, without making it a peer.
pub(super) async fn look(runtime: &Runtime, seed: &Seed) -> Result<Probe, Error> {
    let mut walk = Walk::new(runtime, seed);
    loop {
        let opened = walk.next().await?;
        let there = opened.there;
        match ask(runtime, seed, opened).await {
            Ok(OtherEnd::Peer(probe)) => {
                walk.found(there);
                return Ok(probe);
            }
            Ok(OtherEnd::Itself) => walk.found_itself(there),
            Ok(OtherEnd::Echo) => walk.found_echo(there),
            Err(error) => walk.failed(there, error),
        }
    }
}

/// Who is at the other end of a connection.
enum OtherEnd<P> {
    Peer(P),
    Itself,
    /// Something that sends back what this node sends.
    Echo,
}

/// Finds out who is at the other end of a connection, and connects it.
async fn identify(
    runtime: &Runtime,
    seed: &Seed,
    purpose: &Purpose,
    opened: Opened,
) -> Result<OtherEnd<Dialled>, Error> {
    let Opened {
        connected,
        protection,
        there,
        self_check,
        may_lead_here,
    } = opened;
    if is_known_as_itself(self_check.as_ref(), may_lead_here).await {
        return Ok(OtherEnd::Itself);
    }
    let mut claim = None;
    if !wire(runtime, seed).has_handshake() {
        match runtime.dialer().claims().claim(there, &seed.address) {
            Ok(ours) => claim = Some(ours),
            Err(released) if !matches!(purpose, Purpose::Asked) => {
                return Ok(OtherEnd::Peer(Dialled::Claimed(released)));
            }
            Err(_) => {}
        }
    }
    let seat = match purpose {
        Purpose::Contact { seat, .. } => Some(Arc::clone(seat)),
        Purpose::Asked | Purpose::Planned => None,
    };
    match introduce(runtime, seed, connected, protection, seat).await {
        Ok(Established::Connected(connection)) => {
            let guard = DialGuard {
                address: seed.address.clone(),
                there,
                self_check,
                _claim: claim,
            };
            let peer = Dialled::Peer(Box::new((connection, guard)));
            Ok(OtherEnd::Peer(peer))
        }
        Ok(Established::Already(peer)) => Ok(OtherEnd::Peer(Dialled::Already(peer))),
        Ok(Established::Myself) if may_be_itself(self_check.as_ref()) => Ok(OtherEnd::Itself),
        Ok(Established::Myself) => Ok(OtherEnd::Echo),
        Err(error) if is_of_itself(self_check.as_ref(), &error) => Ok(OtherEnd::Itself),
        Err(error) => Err(error),
    }
}

/// Finds out who is at the other end of a connection, and closes it.
async fn ask(runtime: &Runtime, seed: &Seed, opened: Opened) -> Result<OtherEnd<Probe>, Error> {
    let Opened {
        connected,
        protection,
        there,
        self_check,
        may_lead_here,
    } = opened;
    if is_known_as_itself(self_check.as_ref(), may_lead_here).await {
        return Ok(OtherEnd::Itself);
    }
    let node = runtime.peers().node();
    let (io, info) = secure(runtime, seed, connected, protection).await?;
    let probed = probe(io, node, info).await;
    let has_own_number = |intro: &Introduction| intro.node_id == Some(node.id());
    match probed {
        Ok(_) if self_check.as_ref().is_some_and(SelfCheck::is_itself) => Ok(OtherEnd::Itself),
        Ok(intro) if !has_own_number(&intro) => Ok(OtherEnd::Peer(Probe::new(there, intro))),
        Ok(_) if may_be_itself(self_check.as_ref()) => Ok(OtherEnd::Itself),
        Ok(_) => Ok(OtherEnd::Echo),
        Err(error) if is_of_itself(self_check.as_ref(), &error) => Ok(OtherEnd::Itself),
        Err(error) => Err(error.at(&seed.address)),
    }
}

fn may_be_itself(self_check: Option<&SelfCheck>) -> bool {
    self_check.is_some_and(SelfCheck::may_be_itself)
}

/// Whether a handshake has failed because this node is at the other end too.
fn is_of_itself(self_check: Option<&SelfCheck>, error: &Error) -> bool {
    self_check.is_some_and(|self_check| self_check.is_told_by(error))
}

/// Waits for this node to accept a connection, if it may lead to itself. Returns whether it did.
async fn is_known_as_itself(self_check: Option<&SelfCheck>, may_lead_here: bool) -> bool {
    let Some(self_check) = self_check else {
        return false;
    };
    if may_lead_here {
        // On a timeout, a wire with node numbers still finds out.
        let _ = timeout(OWN_WAIT, self_check.found_itself()).await;
    }
    self_check.is_itself()
}

fn wire<'a>(runtime: &'a Runtime, seed: &'a Seed) -> &'a Wire {
    let wire = seed.wire.as_ref();
    wire.unwrap_or(&runtime.peers().config().wire)
}

/// Secures a dialled connection.
async fn secure(
    runtime: &Runtime,
    seed: &Seed,
    connected: Connected,
    protection: Protection,
) -> Result<(BoxIo, ConnectionInfo), Error> {
    runtime.tune(&connected.io, Some(wire(runtime, seed)));
    let address = &seed.address;
    let there = connected.addr;
    let limit = runtime.peers().config().handshake_timeout;
    let security = runtime.security();
    let connecting = security.connect(connected, address, protection);
    let secured = timeout(limit, connecting).await;
    let secured = secured.unwrap_or_else(|_| Err(security.timeout(limit, protection)));
    let (io, key) = secured.map_err(|error| error.at(address))?;
    let mut info = ConnectionInfo::outbound();
    info.addr = there;
    if there.is_none() || address.scheme() != TCP {
        info.place = Some(Arc::new(address.clone()));
    }
    info.wire = seed.wire.clone();
    info.key = key;
    let ip = there.map(|there| there.ip());
    if let Some(left) = runtime.peers().node().banned(key, ip) {
        return Err(Error::own_ban(left).at(address));
    }
    info.listen = runtime.advertised_to(there);
    Ok((io, info))
}

/// Secures a dialled connection, and performs the handshake on it.
async fn introduce(
    runtime: &Runtime,
    seed: &Seed,
    connected: Connected,
    protection: Protection,
    seat: Option<Arc<dyn Seat>>,
) -> Result<Established<BoxIo>, Error> {
    let (io, info) = secure(runtime, seed, connected, protection).await?;
    let established = establish(io, runtime.peers().node(), info, seat).await;
    established.map_err(|error| error.at(&seed.address))
}
