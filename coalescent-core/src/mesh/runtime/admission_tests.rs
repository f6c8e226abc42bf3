use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::mesh::runtime::ticket::State;
use crate::node::peer::handle::{Command, LinkId};
use crate::node::peer::seat::Role;
use crate::transport::Direction;
use crate::transport::identity::PublicKey;

fn ip(last: u8) -> Option<IpAddr> {
    Some(Ipv4Addr::new(198, 51, 100, last).into())
}

fn reason<T: fmt::Debug>(result: Result<T, Refused>) -> Reason {
    result.unwrap_err().reason()
}

fn admission(max_inbound: usize, max_per_ip: usize, max_pending: usize) -> Admission {
    Admission::new(AdmissionLimits {
        max_inbound,
        max_per_ip,
        max_pending,
        ..AdmissionLimits::default()
    })
}

#[test]
fn a_dropped_ticket_frees_its_place() {
    let now = Instant::now();
    let admission = admission(1, 8, 1);
    let first = admission.admit(ip(1), now).unwrap();
    assert_eq!(reason(admission.admit(ip(2), now)), Reason::Pending);
    first.0.establish().unwrap();
    first.0.establish().unwrap();
    assert_eq!(
        admission.inbound(),
        Inbound {
            established: 1,
            ..Inbound::default()
        }
    );
    assert_eq!(reason(admission.admit(ip(2), now)), Reason::Inbound);
    drop(first);
    drop(admission.admit(ip(2), now).unwrap());
    assert_eq!(admission.inbound(), Inbound::default());
    assert!(admission.lock().groups.is_empty());
}

#[test]
fn a_silent_connection_does_not_keep_peers_out() {
    let now = Instant::now();
    let admission = admission(1, 8, 8);
    let silent = admission.admit(ip(1), now).unwrap();
    let peer = admission.admit(ip(2), now).unwrap();
    peer.0.establish().unwrap();
    assert_eq!(reason(silent.0.establish()), Reason::Inbound);
    assert_eq!(
        admission.inbound(),
        Inbound {
            pending: 1,
            established: 1,
            ..Inbound::default()
        }
    );
}

#[test]
fn the_limit_per_address_holds_in_every_spelling() {
    let now = Instant::now();
    let admission = admission(64, 2, 32);
    let same_v4: [IpAddr; 3] =
        ["198.51.100.1", "::ffff:198.51.100.1", "198.51.100.1"].map(|ip| ip.parse().unwrap());
    let same_net: [IpAddr; 3] =
        ["2001:db8::1", "2001:db8::ffff:0:0:2", "2001:db8::3"].map(|ip| ip.parse().unwrap());
    let mut kept = Vec::new();
    for same in [same_v4, same_net] {
        for ip in &same[..2] {
            kept.push(admission.admit(Some(*ip), now).unwrap());
        }
        kept.last_mut().unwrap().0.establish().unwrap();
        assert_eq!(reason(admission.admit(Some(same[2]), now)), Reason::PerIp);
    }
    kept.push(
        admission
            .admit(Some("2001:db8:0:1::1".parse().unwrap()), now)
            .unwrap(),
    );
    for _ in 0..3 {
        for free in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            kept.push(admission.admit(Some(free.parse().unwrap()), now).unwrap());
        }
        kept.push(admission.admit(None, now).unwrap());
    }
}

#[test]
fn the_address_with_most_handshakes_is_evicted_from() {
    let now = Instant::now();
    let admission = admission(64, 8, 4);
    let other = admission.admit(ip(1), now).unwrap();
    let greedy: Vec<_> = (0..3)
        .map(|_| admission.admit(ip(2), now).unwrap())
        .collect();
    let newcomer = admission.admit(ip(3), now).unwrap();
    assert_eq!(admission.inbound().pending, 4);
    assert_pending!(task::spawn(other.evicted()).poll());
    assert_pending!(task::spawn(greedy[1].evicted()).poll());
    assert_eq!(
        assert_ready!(task::spawn(greedy[0].evicted()).poll()).reason(),
        Reason::Evicted
    );
    assert_eq!(reason(greedy[0].0.establish()), Reason::Evicted);
    // The addresses now have 1, 2 and 1: one more for the first would only swap the roles.
    assert_eq!(reason(admission.admit(ip(1), now)), Reason::Pending);
    drop(greedy);
    newcomer.0.establish().unwrap();
    assert_eq!(
        admission.inbound(),
        Inbound {
            pending: 1,
            established: 1,
            ..Inbound::default()
        }
    );
}

#[test]
fn silent_connections_from_many_addresses_are_evicted_after_the_grace() {
    let now = Instant::now();
    let admission = admission(64, 8, 3);
    let silent: Vec<_> = (0..3)
        .map(|last| admission.admit(ip(last), now).unwrap())
        .collect();
    let early = now + PENDING_GRACE - Duration::from_millis(1);
    assert_eq!(reason(admission.admit(ip(9), early)), Reason::Pending);
    admission
        .admit(ip(9), now + PENDING_GRACE)
        .unwrap()
        .0
        .establish()
        .unwrap();
    assert_ready!(task::spawn(silent[0].evicted()).poll());
    assert_pending!(task::spawn(silent[1].evicted()).poll());
}

#[test]
fn limits_of_zero_refuse_everybody() {
    let now = Instant::now();
    assert_eq!(reason(admission(0, 8, 8).admit(None, now)), Reason::Inbound);
    assert_eq!(reason(admission(8, 0, 8).admit(ip(1), now)), Reason::PerIp);
    let refused = admission(8, 8, 0).admit(ip(1), now).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "0 handshakes under way; raise max_pending to take more"
    );
}

proptest! {
    #[test]
    fn the_counts_are_those_of_the_tickets(
        max_inbound in 0..6_usize, max_per_ip in 0..4_usize, pending in 0..5_usize, contacts in 0..4_usize,
        events in prop::collection::vec((0..6_u8, 0..5_u8, any::<prop::sample::Index>(), 0..8000_u64), 0..150),
    ) {
        let mut now = Instant::now();
        let admission = Admission::new(AdmissionLimits {
            max_contacts: contacts,
            ..admission(max_inbound, max_per_ip, pending).limits
        });
        let mut tickets: Vec<(u8, Ticket)> = Vec::new();
        for (event, last, index, millis) in events {
            now += Duration::from_millis(millis);
            match event {
                0 | 1 => {
                    if let Ok(ticket) = admission.admit(ip(last), now) {
                        tickets.push((last, ticket));
                    }
                }
                _ if tickets.is_empty() => {}
                2 | 3 => {
                    let seat = &tickets[index.index(tickets.len())].1.0;
                    let before = admission.inbound();
                    let refused = match event {
                        2 => seat.establish().is_err(),
                        _ => seat.meet(&link(), last % 2 == 1, now).is_err(),
                    };
                    if refused {
                        prop_assert_eq!(admission.inbound(), before);
                    }
                }
                _ => drop(tickets.swap_remove(index.index(tickets.len()))),
            }
            let counts = admission.lock();
            let of = |state: State| tickets.iter().filter(move |(_, ticket)| *ticket.0.state() == state);
            let is_pending = |id: u64| counts.pending.iter().any(|place| place.id == id);
            let evicted = of(State::Pending).filter(|(_, ticket)| !is_pending(ticket.0.id));
            prop_assert_eq!(counts.pending.len() + evicted.count(), of(State::Pending).count());
            prop_assert_eq!(counts.contacts.len() + counts.ending, of(State::Contact).count());
            prop_assert_eq!(counts.established, of(State::Established).count());
            prop_assert!(counts.established <= max_inbound && counts.pending.len() <= pending);
            prop_assert!(counts.contacts.len() <= 2 * contacts && counts.ending <= contacts);
            for last in 0..5 {
                let live = |ticket: &Ticket| *ticket.0.state() != State::Pending || is_pending(ticket.0.id);
                let count = tickets.iter().filter(|(ip, ticket)| *ip == last && live(ticket)).count();
                prop_assert!(count <= max_per_ip);
                let group = Group::of(ip(last));
                prop_assert_eq!(counts.groups.get(&group).copied().unwrap_or(0), count);
            }
        }
        tickets.clear();
        prop_assert_eq!(admission.inbound(), Inbound::default());
        prop_assert!(admission.lock().groups.is_empty());
        prop_assert_eq!(admission.lock().ending, 0);
    }
}

fn link() -> Arc<ConnectionHandle> {
    Arc::new(ConnectionHandle::new(LinkId(0), Direction::Inbound, None))
}

fn with_contacts(max_contacts: usize) -> Admission {
    Admission::new(AdmissionLimits {
        max_inbound: 1,
        max_contacts,
        ..AdmissionLimits::default()
    })
}

#[test]
fn contacts_have_places_of_their_own() {
    let now = Instant::now();
    let admission = with_contacts(1);
    let peer = admission.admit(ip(1), now).unwrap();
    peer.0.establish().unwrap();
    let contact = admission.admit(ip(2), now).unwrap();
    assert!(contact.0.meet(&link(), false, now).unwrap().is_none());
    assert!(contact.0.meet(&link(), false, now).unwrap().is_none());
    // It has no place as a peer, and stays a contact.
    assert_eq!(reason(contact.0.establish()), Reason::Inbound);
    let all = Inbound {
        contacts: 1,
        established: 1,
        ..Inbound::default()
    };
    assert_eq!(admission.inbound(), all);
    // Nobody is let in for whom there is neither place.
    assert_eq!(reason(admission.admit(ip(3), now)), Reason::Inbound);
    drop(peer);
    let third = admission.admit(ip(3), now).unwrap();
    assert_eq!(reason(third.0.meet(&link(), false, now)), Reason::Contacts);
    contact.0.establish().unwrap();
    assert!(third.0.meet(&link(), false, now).unwrap().is_none());
    assert_eq!(admission.inbound(), all);
    // One that takes over from another connection is not refused.
    let fourth = admission.admit(ip(4), now + CONTACT_GRACE).unwrap();
    assert!(fourth.0.meet(&link(), true, now).unwrap().is_none());
    assert_eq!(admission.inbound().contacts, 2);
    let fifth = admission.admit(ip(5), now + CONTACT_GRACE).unwrap();
    assert_eq!(reason(fifth.0.meet(&link(), true, now)), Reason::Contacts);
    drop((fourth, fifth));
    drop(contact);
    drop(third);
    assert_eq!(admission.inbound(), Inbound::default());
}

#[test]
fn an_old_contact_gives_way_and_has_to_end_before_the_next_one() {
    let start = Instant::now();
    let admission = with_contacts(2);
    let mut tickets = Vec::new();
    let mut meet = |last, now| {
        let ticket = admission.admit(ip(last), now).unwrap();
        let link = link();
        let met = ticket.0.meet(&link, false, now);
        tickets.push((ticket, link));
        met
    };
    assert!(meet(1, start).unwrap().is_none() && meet(2, start).unwrap().is_none());
    let early = start + CONTACT_GRACE - Duration::from_nanos(1);
    assert_eq!(reason(meet(3, early)), Reason::Contacts);
    let late = start + CONTACT_GRACE;
    for last in [4, 5] {
        assert!(meet(last, late).unwrap().is_some(), "the oldest gives way");
    }
    let later = late + CONTACT_GRACE;
    assert_eq!(
        reason(meet(6, later)),
        Reason::Contacts,
        "two have not ended"
    );
    let evicted = tickets.remove(0);
    assert_eq!(reason(evicted.0.0.establish()), Reason::Evicted);
    drop(evicted);
    let ticket = admission.admit(ip(7), later).unwrap();
    assert!(ticket.0.meet(&link(), false, later).unwrap().is_some());
}

#[test]
fn an_address_with_many_contacts_gives_way_at_once() {
    let now = Instant::now();
    let admission = with_contacts(3);
    let greedy: Vec<_> = (0..3)
        .map(|_| {
            let ticket = admission.admit(ip(1), now).unwrap();
            let link = link();
            assert!(ticket.0.meet(&link, false, now).unwrap().is_none());
            (ticket, link)
        })
        .collect();
    let other = admission.admit(ip(2), now).unwrap();
    let evicted = other
        .0
        .meet(&link(), false, now)
        .unwrap()
        .expect("one of three");
    assert!(Arc::ptr_eq(&evicted, &greedy[0].1));
    let more = admission.admit(ip(1), now).unwrap();
    assert_eq!(reason(more.0.meet(&link(), false, now)), Reason::Contacts);
}

#[test]
fn a_contact_that_gives_way_to_one_that_takes_over_is_ended() {
    let now = Instant::now();
    let admission = with_contacts(2);
    let enter = |last| {
        let (ticket, link) = (admission.admit(ip(last), now).unwrap(), link());
        ticket.seat().take_over(Role::Contact, &link).unwrap();
        (ticket, link)
    };
    let greedy: Vec<_> = (0..4).map(|_| enter(1)).collect();
    let _other = enter(2);
    assert_eq!(admission.inbound().contacts, 4);
    let mut told = task::spawn(std::future::poll_fn(|cx| greedy[0].1.poll_given(cx)));
    assert!(matches!(assert_ready!(told.poll()), Command::Reject(_)));
}

#[test]
fn a_connection_that_is_told_late_is_admitted_to_its_handshake() {
    let admission = Admission::new(AdmissionLimits {
        max_inbound: 1,
        tell_late: true,
        ..AdmissionLimits::default()
    });
    let now = Instant::now();
    let first = admission.admit(None, now).unwrap();
    let second = admission.admit(None, now).unwrap();
    assert!(second.check(now).is_ok());
    first.0.establish().unwrap();
    assert_eq!(second.check(now).unwrap_err().reason(), Reason::Inbound);
    assert!(second.0.establish().is_err());
    let third = admission.admit(None, now).unwrap();
    assert!(third.check(now).is_err());
    drop(first);
    assert!(third.check(now).is_ok() && third.0.establish().is_ok());
}

#[test]
fn who_has_many_keys_is_one_of_those_who_have_a_handshake_under_way() {
    let now = Instant::now();
    let admission = admission(8, 2, 3);
    let of = |number| Groups::of(None, Some(PublicKey::repeated(number)), Group::Listener(1));
    let peer = admission.admit(ip(1), now).unwrap();
    let _silent = [1, 2].map(|number| admission.admit(of(number), now).unwrap());
    // However many keys it shows, it evicts nobody else.
    assert_eq!(reason(admission.admit(of(3), now)), Reason::Pending);
    let other = admission.admit(ip(2), now).unwrap();
    assert!(peer.0.establish().is_ok() && other.0.establish().is_ok());
}

#[test]
fn a_key_without_an_address_is_limited_like_an_address() {
    let now = Instant::now();
    let admission = admission(8, 2, 8);
    let of = |number, listener| {
        Groups::of(
            None,
            Some(PublicKey::repeated(number)),
            Group::Listener(listener),
        )
    };
    let _kept = [1, 2].map(|listener| admission.admit(of(1, listener), now).unwrap());
    assert_eq!(reason(admission.admit(of(1, 3), now)), Reason::PerIp);
    let _other = admission.admit(of(2, 1), now).unwrap();
    // One who has an address is counted by that.
    let both = Groups::of(ip(1), Some(PublicKey::repeated(1)), Group::Listener(1));
    assert_eq!(both, Groups::from(ip(1)));
    // Those who have neither, and those of this machine, are not.
    for group in [Group::Listener(1), Group::Loopback] {
        let _kept = [0; 2].map(|_| admission.admit(Groups::of(None, None, group), now).unwrap());
    }
}
