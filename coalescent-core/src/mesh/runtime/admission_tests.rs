use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;

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
    first.establish().unwrap();
    first.establish().unwrap();
    assert_eq!(
        admission.inbound(),
        Inbound {
            pending: 0,
            established: 1
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
    peer.establish().unwrap();
    assert_eq!(reason(silent.establish()), Reason::Inbound);
    assert_eq!(
        admission.inbound(),
        Inbound {
            pending: 1,
            established: 1
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
        kept.last_mut().unwrap().establish().unwrap();
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
    assert_eq!(reason(greedy[0].establish()), Reason::Evicted);
    // The addresses now have 1, 2 and 1: one more for the first would only swap the roles.
    assert_eq!(reason(admission.admit(ip(1), now)), Reason::Pending);
    drop(greedy);
    newcomer.establish().unwrap();
    assert_eq!(
        admission.inbound(),
        Inbound {
            pending: 1,
            established: 1
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
        max_inbound in 0..6_usize, max_per_ip in 0..4_usize, pending in 0..5_usize,
        events in prop::collection::vec((0..4_u8, 0..5_u8, any::<prop::sample::Index>(), 0..800_u64), 0..150),
    ) {
        let mut now = Instant::now();
        let admission = admission(max_inbound, max_per_ip, pending);
        let mut tickets: Vec<(u8, Ticket)> = Vec::new();
        for (event, last, index, millis) in events {
            match event {
                0 | 1 => {
                    now += Duration::from_millis(millis);
                    if let Ok(ticket) = admission.admit(ip(last), now) {
                        tickets.push((last, ticket));
                    }
                }
                _ if tickets.is_empty() => {}
                2 => {
                    let index = index.index(tickets.len());
                    let before = admission.inbound();
                    if tickets[index].1.establish().is_err() {
                        prop_assert_eq!(admission.inbound(), before);
                    }
                }
                _ => drop(tickets.swap_remove(index.index(tickets.len()))),
            }
            let evicted = |ticket: &Ticket| {
                !ticket.is_established() && !admission.lock().pending.iter().any(|p| p.id == ticket.id)
            };
            let live: Vec<_> = tickets.iter().filter(|(_, ticket)| !evicted(ticket)).collect();
            let established = live.iter().filter(|(_, ticket)| ticket.is_established()).count();
            let inbound = admission.inbound();
            prop_assert_eq!(inbound, Inbound { pending: live.len() - established, established });
            prop_assert!(established <= max_inbound && inbound.pending <= pending);
            for last in 0..5 {
                let count = live.iter().filter(|(ip, _)| *ip == last).count();
                prop_assert!(count <= max_per_ip);
                let group = Group::of(ip(last));
                prop_assert_eq!(admission.lock().groups.get(&group).copied().unwrap_or(0), count);
            }
        }
        tickets.clear();
        prop_assert_eq!(admission.inbound(), Inbound::default());
        prop_assert!(admission.lock().groups.is_empty());
    }
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
    assert!(second.check().is_ok());
    first.establish().unwrap();
    assert_eq!(second.check().unwrap_err().reason(), Reason::Inbound);
    assert!(second.establish().is_err());
    let third = admission.admit(None, now).unwrap();
    assert!(third.check().is_err());
    drop(first);
    assert!(third.check().is_ok() && third.establish().is_ok());
}

#[test]
fn who_has_many_keys_is_one_of_those_who_have_a_handshake_under_way() {
    let now = Instant::now();
    let admission = admission(8, 2, 3);
    let of = |number| Groups::of(None, Some([number; 32]), Group::Listener(1));
    let peer = admission.admit(ip(1), now).unwrap();
    let _silent = [1, 2].map(|number| admission.admit(of(number), now).unwrap());
    // However many keys it shows, it evicts nobody else.
    assert_eq!(reason(admission.admit(of(3), now)), Reason::Pending);
    let other = admission.admit(ip(2), now).unwrap();
    assert!(peer.establish().is_ok() && other.establish().is_ok());
}

#[test]
fn a_key_without_an_address_is_limited_like_an_address() {
    let now = Instant::now();
    let admission = admission(8, 2, 8);
    let of = |number, listener| Groups::of(None, Some([number; 32]), Group::Listener(listener));
    let _kept = [1, 2].map(|listener| admission.admit(of(1, listener), now).unwrap());
    assert_eq!(reason(admission.admit(of(1, 3), now)), Reason::PerIp);
    let _other = admission.admit(of(2, 1), now).unwrap();
    // One who has an address is counted by that.
    let both = Groups::of(ip(1), Some([1; 32]), Group::Listener(1));
    assert_eq!(both, Groups::from(ip(1)));
    // Those who have neither, and those of this machine, are not.
    for group in [Group::Listener(1), Group::Loopback] {
        let _kept = [0; 2].map(|_| admission.admit(Groups::of(None, None, group), now).unwrap());
    }
}
