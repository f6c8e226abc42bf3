use iroh_gossip::proto;
use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> Key {
    [byte; 32]
}

fn info(byte: u8, data: Option<&[u8]>) -> Info<'_> {
    let data = data.map(Raw);
    Info {
        id: key(byte),
        data,
    }
}

/// One message of each kind.
fn all() -> Vec<Message<'static>> {
    let nodes = || Few(vec![info(1, Some(b"a:1")), info(2, None)]);
    let swarm = [
        Swarm::Join(None),
        Swarm::Join(Some(Raw(b"127.0.0.1:7"))),
        Swarm::ForwardJoin {
            peer: info(3, Some(b"b:2")),
            ttl: 300,
        },
        Swarm::Shuffle {
            origin: key(4),
            nodes: nodes(),
            ttl: 6,
        },
        Swarm::ShuffleReply { nodes: nodes() },
        Swarm::Neighbor {
            priority: Priority::High,
            data: None,
        },
        Swarm::Neighbor {
            priority: Priority::Low,
            data: Some(Raw(b"c:3")),
        },
        Swarm::Disconnect {
            alive: true,
            respond: false,
        },
    ];
    let gossip = [
        Gossip::Gossip {
            id: key(5),
            content: Raw(&[7; 5000]),
            scope: Scope::Swarm(65535),
        },
        Gossip::Gossip {
            id: key(5),
            content: Raw(b""),
            scope: Scope::Neighbors,
        },
        Gossip::Prune,
        Gossip::Graft {
            id: Some(key(6)),
            round: 9,
        },
        Gossip::Graft { id: None, round: 0 },
        Gossip::IHave(Few(vec![(key(8), 1), (key(9), 65535)])),
    ];
    let parts = swarm.map(Part::Swarm).into_iter();
    let parts = parts.chain(gossip.map(Part::Gossip));
    parts
        .map(|part| Message {
            topic: key(0xee),
            part,
        })
        .collect()
}

#[test]
fn each_kind_is_what_the_engine_reads_and_writes() {
    for message in all() {
        let bytes = message.encode();
        let (theirs, rest) = postcard::take_from_bytes::<proto::Message<Key>>(&bytes).unwrap();
        assert!(rest.is_empty(), "{message:?}");
        assert_eq!(encode(&theirs), bytes, "{message:?}");
        // The engine prints its fields, which pins that none of them is swapped for another.
        let said = format!("{theirs:?}");
        let kind = format!("{:?}", message.part);
        let kind = kind
            .split(|at: char| !at.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .nth(1);
        assert!(said.contains(kind.unwrap()), "{said}");
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
}

#[test]
fn what_the_engine_sends_is_read() {
    use proto::{Command, InEvent, OutEvent, State, TopicId};
    use rand_engine::SeedableRng;

    let rng = rand_engine::rngs::StdRng::seed_from_u64(1);
    let data = proto::topic::Config::default();
    let mut state = State::new(key(1), proto_data(b"127.0.0.1:1"), data, rng);
    let topic = TopicId::from_bytes(key(9));
    let now = tokio::time::Instant::now();
    let join = InEvent::Command(topic, Command::Join(vec![key(2)]));
    let out: Vec<_> = state.handle(join, now, None).collect();
    let sent = out.iter().find_map(|event| match event {
        OutEvent::SendMessage(to, message) => Some((to, encode(message))),
        _ => None,
    });
    let (to, bytes) = sent.unwrap();
    assert_eq!(*to, key(2));
    let join = Part::Swarm(Swarm::Join(Some(Raw(b"127.0.0.1:1"))));
    let expected = Message {
        topic: key(9),
        part: join,
    };
    assert_eq!(Message::decode(&bytes), Ok(expected));
}

fn proto_data(data: &'static [u8]) -> proto::PeerData {
    proto::PeerData::new(data)
}

#[test]
fn bytes_behind_a_message_are_an_error_and_so_is_a_part_of_one() {
    for message in all() {
        let bytes = message.encode();
        let mut more = bytes.to_vec();
        more.push(0);
        let error = Message::decode(&more).unwrap_err();
        assert_eq!(error.0, "there are bytes behind it");
        for len in 0..bytes.len().min(200) {
            assert!(Message::decode(&bytes[..len]).is_err(), "{message:?}");
        }
    }
}

#[test]
fn lists_and_addresses_are_bounded() {
    let of = |swarm| Message {
        topic: key(1),
        part: Part::Swarm(swarm),
    };
    let reply = |count| {
        of(Swarm::ShuffleReply {
            nodes: Few(vec![info(1, None); count]),
        })
    };
    assert!(Message::decode(&reply(MAX_PEERS).encode()).is_ok());
    assert!(Message::decode(&reply(MAX_PEERS + 1).encode()).is_err());
    let ids = |count| Message {
        topic: key(1),
        part: Part::Gossip(Gossip::IHave(Few(vec![(key(1), 0); count]))),
    };
    assert!(Message::decode(&ids(MAX_IDS - 2).encode()).is_ok());
    assert!(Message::decode(&ids(MAX_IDS + 1).encode()).is_err());
    let long = [b'a'; MAX_DATA + 1];
    assert!(Message::decode(&of(Swarm::Join(Some(Raw(&long[1..])))).encode()).is_ok());
    let join = of(Swarm::Join(Some(Raw(&long))));
    assert!(Message::decode(&join.encode()).is_err());
    let nodes = Few(vec![info(1, Some(&long))]);
    let reply = of(Swarm::ShuffleReply { nodes });
    assert!(Message::decode(&reply.encode()).is_err());
}

#[test]
fn the_overhead_of_a_payload_is_bounded() {
    let content = vec![1; 1 << 21];
    let message = Message {
        topic: key(1),
        part: Part::Gossip(Gossip::Gossip {
            id: key(2),
            content: Raw(&content),
            scope: Scope::Swarm(u16::MAX),
        }),
    };
    assert!(message.encode().len() <= content.len() + OVERHEAD);
}

#[test]
fn a_count_reserves_no_memory() {
    // ShuffleReply and IHave of u32::MAX items, of which none is there.
    for head in [[0, 3], [1, 3]] {
        let mut bytes = vec![1; 32];
        bytes.extend(head);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        let info = allocation_counter::measure(|| {
            assert!(Message::decode(&bytes).is_err());
        });
        assert!(info.bytes_max < 4096, "{info:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(mut bytes: Vec<u8>, kind in 0u8..2, which in 0u8..6) {
        let _ = Message::decode(&bytes);
        let mut headed = vec![0; 32];
        headed.extend([kind, which]);
        headed.append(&mut bytes);
        if let Ok(message) = Message::decode(&headed) {
            let again = message.encode();
            prop_assert_eq!(Message::decode(&again), Ok(message.clone()));
            // Whatever this crate takes, the engine can read.
            let theirs = postcard::from_bytes::<proto::Message<Key>>(&again);
            prop_assert!(theirs.is_ok());
        }
    }
}
