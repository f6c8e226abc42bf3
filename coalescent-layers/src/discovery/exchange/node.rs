//! One node's part in the exchange: carries out what the decisions beside it say.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coalescent_core::{Address, Dial, Direction, Mesh, Peer, Source, Suggestion, WeakMesh};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::asking::{ASK_EVERY, Asking, NotAsked};
use super::message::{CHANNEL, ExchangeMessage};
use super::taking::{Allowances, Own, Teller, acceptable};
use super::telling::{OwnOf, Telling, one_of_each};
use crate::discovery::book::{Book, Group};
use crate::discovery::listening;
use crate::discovery::place::Place;

/// The weight of a fault against the rules of the channel.
pub const FAULT: u32 = 20;

/// For how many host names that were dialled it is remembered to which IP address they led.
pub const MAX_NAMES: usize = 64;

/// How many of the addresses are remembered that led to one peer.
const MAX_WAYS: usize = 4;

/// What all peers of one node share.
#[derive(Debug)]
pub(super) struct Node {
    book: Book,
    state: Mutex<State>,
    /// Notified when there may be a peer to ask.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    telling: Telling,
    allowances: Allowances,
    /// The IP addresses to which host names led, both without identities.
    names: HashMap<Address, Address>,
}

/// What is kept with a peer that this node has dialled.
#[derive(Clone, Debug, Default)]
struct Link(Arc<Mutex<LinkState>>);

#[derive(Debug, Default)]
struct LinkState {
    asking: Asking,
    /// The addresses that led to the peer.
    ways: Vec<Address>,
}

impl State {
    /// Remembers to which IP address a host name led.
    fn note(&mut self, name: Address, ip: Address) {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&name) {
            let other = self.names.keys().next().cloned();
            other.and_then(|other| self.names.remove(&other));
        }
        self.names.insert(name, ip);
    }

    /// Returns what is told instead of an address: the IP address to which it led, if it has a
    /// name.
    fn as_ip(names: &HashMap<Address, Address>, address: Address) -> Address {
        let id = address.id();
        let name = address.with_id(None);
        names.get(&name).unwrap_or(&name).clone().with_id(id)
    }
}

impl Node {
    pub(super) fn new(book: Book) -> Self {
        Self {
            book,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns what is kept with a peer. Under the lock, so that it is made once.
    fn link(&self, peer: &Peer) -> Link {
        let _state = self.state();
        peer.get().unwrap_or_else(|| {
            let link = Link::default();
            peer.set(link.clone());
            link
        })
    }

    /// Takes note of a peer that has connected.
    pub(super) fn connected(&self, peer: &Peer) {
        if peer.direction() == Direction::Outbound {
            self.changed.notify_one();
        } else if let Some(listen) = listening::said_by(peer) {
            self.declared(peer, listen);
        }
    }

    /// Takes note of where an inbound peer says that it listens, unless it is seen there: that is
    /// left to [`AddressBook`](crate::discovery::book::AddressBook), which believes it.
    ///
    /// Another host is an address like those that a peer tells: it is not told to others until a
    /// dial has shown that somebody is there.
    fn declared(&self, peer: &Peer, listen: Address) {
        if listening::seen_at(peer).is_some() {
            return;
        }
        let Some(mesh) = peer.mesh() else { return };
        // Without where peers see this node: that takes a look at all of them.
        let own = own(&mesh, []);
        for listen in self.acceptable(peer, &mesh, vec![listen], &own) {
            self.book.heard(&listen, &group(peer, &listen));
        }
    }

    /// Takes note of a dial that has met a peer.
    pub(super) fn dialled(&self, dial: &Dial) {
        let Ok(peer) = dial.result() else { return };
        let address = dial.address();
        if let Some(ip) = resolved(address, dial.socket_addr()) {
            self.state().note(address.clone().with_id(None), ip);
        }
        let link = self.link(peer);
        let ways = &mut lock(&link.0).ways;
        if ways.len() < MAX_WAYS && !ways.contains(address) {
            ways.push(address.clone());
        }
        // It may be a peer that had dialled this node before.
        self.changed.notify_one();
    }

    /// Asks each peer when it is time, until the mesh ends.
    pub(super) async fn ask_in_time(&self, mesh: WeakMesh) {
        loop {
            let Some(next) = mesh.upgrade().map(|mesh| self.ask_due(&mesh)) else {
                return;
            };
            let _ = timeout_at(next, self.changed.notified()).await;
        }
    }

    /// Asks the peers for which it is time, and returns when to look again.
    fn ask_due(&self, mesh: &Mesh) -> Instant {
        let now = Instant::now();
        let mut next = now + ASK_EVERY;
        for peer in mesh.peers().list().iter() {
            let direction = peer.direction();
            if direction == Direction::Inbound || !peer.has_channel(CHANNEL) {
                continue;
            }
            let link = self.link(peer);
            let asking = &mut lock(&link.0).asking;
            if let Some(count) = asking.ask(direction, now) {
                let ask = ExchangeMessage::Ask(count).encode();
                if let Err(error) = peer.try_send_on(CHANNEL, ask) {
                    asking.unsent();
                    tracing::debug!(peer = %peer.id(), error = %error.report(), "a peer was not asked for addresses");
                }
            } else if let Some(due) = asking.due(direction, now) {
                next = next.min(due);
            }
        }
        next
    }

    /// Handles what a peer said on the channel.
    pub(super) async fn heard(&self, peer: &Peer, payload: &[u8]) {
        match ExchangeMessage::decode(payload) {
            Ok(ExchangeMessage::Ask(count)) => {
                let answer = ExchangeMessage::Tell(self.answer(peer, count)).encode();
                // It fails if the peer has gone.
                let _ = peer.send_on(CHANNEL, answer).await;
            }
            Ok(ExchangeMessage::Tell(told)) => self.told(peer, told),
            Err(error) => peer.penalize(FAULT, error.to_string()),
        }
    }

    fn answer(&self, peer: &Peer, count: usize) -> Vec<Address> {
        let place = Place::of_peer(peer.addr().map(|addr| addr.ip()));
        let own = own_of(peer);
        let may = |address: &Address| place.may_tell(Place::of(address)) && !own.contains(address);
        let mut state = self.state();
        let State { telling, names, .. } = &mut *state;
        let known = || {
            let mut known = self.book.tellable();
            // The book may have had no place for one of them.
            known.extend(inbound(peer));
            let known = known.into_iter();
            let known = known.map(|address| State::as_ip(names, address));
            one_of_each(known.collect())
        };
        telling.answer(count, may, known, Instant::now(), &mut rand::rng())
    }

    fn told(&self, peer: &Peer, told: Vec<Address>) {
        let not_asked = match peer.get::<Link>() {
            Some(link) => lock(&link.0).asking.answered(told.len()),
            None => Err(NotAsked::AtAll),
        };
        if let Err(why) = not_asked {
            let why = match why {
                NotAsked::AtAll => "it tells addresses that it was not asked for",
                NotAsked::ForSoMany => "it tells more addresses than it was asked for",
            };
            peer.penalize(FAULT, why);
            return;
        }
        let Some(mesh) = peer.mesh() else { return };
        let peers = mesh.peers().list();
        let own = own(&mesh, seen(&peers));
        for address in self.acceptable(peer, &mesh, told, &own) {
            let kept = self.book.heard(&address, &group(peer, &address));
            if !kept
                && Place::of(&address).is_near()
                && !self.book.update(|table, _| table.contains(&address))
            {
                // Addresses of one network compete for few places of the book, which keeps one
                // stranger from filling it. Neighbours need not.
                mesh.suggest(Suggestion::new(address, Source::PEERS));
            }
        }
    }

    /// Returns those of the addresses told by a peer that are taken.
    fn acceptable(
        &self,
        peer: &Peer,
        mesh: &Mesh,
        mut told: Vec<Address>,
        own: &Own,
    ) -> Vec<Address> {
        told.retain(|address| mesh.may_dial(address));
        let addr = peer.addr();
        let place = Place::of_peer(addr.map(|addr| addr.ip()));
        let mut taken = acceptable(told, place, own);
        let teller = Teller::of(addr, peer.direction(), *peer.id());
        let count = self
            .state()
            .allowances
            .take(teller, taken.len(), Instant::now());
        taken.truncate(count);
        taken
    }
}

/// Returns where the peers that this node has dialled see it. The others choose themselves to be
/// its peers, and could hide any address by the claim that this node is there.
fn seen(peers: &[Peer]) -> impl Iterator<Item = IpAddr> {
    let dialled = |peer: &&Peer| peer.direction() == Direction::Outbound;
    let dialled = peers.iter().filter(dialled);
    dialled.filter_map(Peer::seen_addr).map(|addr| addr.ip())
}

/// Returns where this node itself can be dialled, if it is seen at these addresses.
fn own(mesh: &Mesh, seen: impl IntoIterator<Item = IpAddr>) -> Own {
    let advertised = mesh.peers().config().advertise.as_ref();
    let advertised = advertised.and_then(|advertised| advertised.parse().ok());
    Own::new(mesh.local_addrs(), seen, advertised)
}

/// Returns where a peer can be dialled.
fn own_of(peer: &Peer) -> OwnOf {
    let mut own: Vec<_> = listening::said_by(peer).into_iter().collect();
    if let Some(link) = peer.get::<Link>() {
        own.extend(lock(&link.0).ways.iter().cloned());
    }
    if peer.direction() == Direction::Outbound {
        own.extend(peer.addr().and_then(|addr| Address::try_from(addr).ok()));
    }
    OwnOf(own)
}

/// Returns where the inbound peers of a node listen, as far as they are seen there; `peer` is one
/// of its peers.
fn inbound(peer: &Peer) -> Vec<Address> {
    let peers = peer.peers().list();
    let inbound = peers
        .iter()
        .filter(|peer| peer.direction() == Direction::Inbound);
    let listening = inbound.filter_map(|peer| {
        let listen = listening::seen_at(peer)?;
        let id = peer.id().key().or(listen.id());
        Some(listen.with_id(id))
    });
    listening.collect()
}

/// Returns the IP address to which a host name led, if others may take that and not the name.
fn resolved(address: &Address, led_to: Option<SocketAddr>) -> Option<Address> {
    let ip = Address::try_from(led_to?).ok()?;
    let of_use = matches!(Place::of(&ip), Place::Public | Place::Private);
    let named = Place::of(address) == Place::Named;
    (named && of_use).then_some(ip)
}

/// Returns the group that an address counts against: that of the peer who told it.
fn group(peer: &Peer, told: &Address) -> Group {
    peer.addr()
        .map_or_else(|| Group::of(told), |addr| Group::of_ip(addr.ip()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_told_as_the_ip_address_that_it_led_to() {
        let id = "1".repeat(64);
        for (dialled, led_to, told) in [
            ("example.com:1", Some("1.2.3.4:1"), "1.2.3.4:1"),
            ("nas.local:1", Some("192.168.1.2:1"), "192.168.1.2:1"),
            // What others may be told as it is, or nobody could dial.
            ("1.2.3.4:1", Some("1.2.3.4:1"), "1.2.3.4:1"),
            ("here:1", Some("127.0.0.1:1"), "here:1"),
            ("example.com:1", Some("198.51.100.1:1"), "example.com:1"),
            ("hidden.onion:1", None, "hidden.onion:1"),
        ] {
            let mut state = State::default();
            let led_to = led_to.map(|text| text.parse().unwrap());
            if let Some(ip) = resolved(&address(dialled), led_to) {
                state.note(address(dialled), ip);
            }
            for prefix in ["", &format!("{id}@")] {
                let known = address(&format!("{prefix}{dialled}"));
                let expected = address(&format!("{prefix}{told}"));
                assert_eq!(State::as_ip(&state.names, known), expected);
            }
        }
    }

    #[test]
    fn the_names_remembered_are_bounded() {
        let mut state = State::default();
        for number in 0..10 * MAX_NAMES {
            let name = address(&format!("host-{number}:1"));
            state.note(name.clone(), address("1.2.3.4:1"));
            assert!(state.names.len() <= MAX_NAMES && state.names.contains_key(&name));
        }
    }
}
