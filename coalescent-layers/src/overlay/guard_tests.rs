use super::super::mirror::{MAX_IDS, Priority};
use super::super::places::{ID_EVERY, IDS_AT_ONCE};
use super::*;

/// What is known in a test: no keys are proven.
struct Stage {
    neighbour: bool,
    tree: Option<bool>,
    place: Place,
    listen: Option<&'static str>,
    ids: Bucket,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            neighbour: true,
            tree: Some(true),
            place: Place::Loopback,
            listen: None,
            ids: Bucket::new(IDS_AT_ONCE, ID_EVERY),
        }
    }
}

fn key(number: u8) -> Key {
    let mut key = [0; 32];
    key[..16].fill(number);
    key
}

const ME: u8 = 1;
const FROM: u8 = 2;
const KNOWN: u8 = 3;

impl Stage {
    fn stranger() -> Self {
        Self {
            neighbour: false,
            ..Self::default()
        }
    }

    /// Decides about a message, and returns what is left of it, and what was learned.
    fn judge<'a>(&mut self, part: Part<'a>) -> (Ruling, Part<'a>, Vec<String>) {
        self.judge_at(part, Instant::now())
    }

    fn judge_at<'a>(&mut self, part: Part<'a>, now: Instant) -> (Ruling, Part<'a>, Vec<String>) {
        let me = key(ME);
        let mut scene = Scene {
            rules: Rules {
                me: &me,
                keys: false,
                may_dial: &|_| true,
            },
            from: key(FROM),
            place: self.place,
            listen: self.listen.map(|listen| listen.parse().unwrap()),
            reachable: &|one| *one == key(KNOWN) || *one == key(FROM),
            tree: self.tree,
            ids: self.neighbour.then_some(&mut self.ids),
        };
        let topic = key(9);
        let mut message = Message { topic, part };
        let mut learned = Vec::new();
        let ruling = judge(&mut scene, &mut message, &mut learned, now);
        let learned = learned
            .into_iter()
            .map(|(key, address)| format!("{} {address}", key[0]))
            .collect();
        (ruling, message.part, learned)
    }

    fn ruling(&mut self, part: Part<'_>) -> Ruling {
        self.judge(part).0
    }
}

fn info(number: u8, data: &'static str) -> Info<'static> {
    let data = (!data.is_empty()).then_some(Raw(data.as_bytes()));
    let id = key(number);
    Info { id, data }
}

fn shuffle(origin: u8, nodes: Vec<Info<'_>>, ttl: u16) -> Part<'_> {
    let (origin, nodes) = (key(origin), Few(nodes));
    Part::Swarm(Swarm::Shuffle { origin, nodes, ttl })
}

fn forward(peer: Info<'_>, ttl: u16) -> Part<'_> {
    Part::Swarm(Swarm::ForwardJoin { peer, ttl })
}

fn join(data: Option<&str>) -> Part<'_> {
    Part::Swarm(Swarm::Join(data.map(|data| Raw(data.as_bytes()))))
}

fn ihave(count: usize) -> Part<'static> {
    Part::Gossip(Gossip::IHave(Few(vec![(key(7), 0); count])))
}

fn payload(round: u16) -> Part<'static> {
    Part::Gossip(Gossip::Gossip {
        id: key(7),
        content: Raw(b"x"),
        scope: Scope::Swarm(round),
    })
}

#[test]
fn a_stranger_may_join_ask_walk_answer_and_leave_and_nothing_else() {
    let neighbor = |priority| {
        let data = None;
        Part::Swarm(Swarm::Neighbor { priority, data })
    };
    let goodbye = Part::Swarm(Swarm::Disconnect {
        alive: true,
        respond: false,
    });
    for part in [
        join(Some("127.0.0.1:7")),
        neighbor(Priority::High),
        neighbor(Priority::Low),
        shuffle(FROM, vec![info(KNOWN, "")], 6),
        Part::Swarm(Swarm::ShuffleReply {
            nodes: Few(vec![info(KNOWN, "")]),
        }),
        goodbye,
    ] {
        assert_eq!(Stage::stranger().ruling(part), Ruling::Take);
    }
    for part in [
        forward(info(KNOWN, ""), 6),
        payload(0),
        ihave(1),
        Part::Gossip(Gossip::Prune),
        Part::Gossip(Gossip::Graft { id: None, round: 0 }),
    ] {
        let stranger = Stage::stranger().ruling(part.clone());
        assert_eq!(stranger, Ruling::Drop(Refused::Stranger), "{part:?}");
        assert_eq!(Stage::default().ruling(part), Ruling::Take);
    }
}

#[test]
fn unknown_topics_are_passed_over() {
    let mut stage = Stage {
        tree: None,
        ..Stage::default()
    };
    assert_eq!(stage.ruling(join(None)), Ruling::Drop(Refused::Topic));
    assert_eq!(stage.ruling(payload(0)), Ruling::Drop(Refused::Topic));
}

#[test]
fn a_topic_without_a_tree_has_payloads_and_no_more() {
    let mut stage = Stage {
        tree: Some(false),
        ..Stage::default()
    };
    assert_eq!(stage.ruling(payload(0)), Ruling::Take);
    assert_eq!(stage.ruling(ihave(1)), Ruling::Drop(Refused::Tree));
}

#[test]
fn ids_by_the_million_are_cut_to_a_rate() {
    let start = Instant::now();
    let mut stage = Stage::default();
    let mut taken = 0;
    // 100,000 messages, within a second.
    for number in 0..100_000u32 {
        let now = start + std::time::Duration::from_micros(10) * number;
        let (ruling, part, _) = stage.judge_at(ihave(MAX_IDS), now);
        match (ruling, part) {
            (Ruling::Take, Part::Gossip(Gossip::IHave(ids))) => taken += ids.0.len(),
            (ruling, _) => assert_eq!(ruling, Ruling::Drop(Refused::Ids)),
        }
    }
    let most = IDS_AT_ONCE as usize + 250 + 1;
    assert!((IDS_AT_ONCE as usize..=most).contains(&taken), "{taken}");
}

#[test]
fn walks_are_short() {
    let (_, part, _) = Stage::default().judge(shuffle(FROM, vec![], u16::MAX));
    assert!(matches!(
        part,
        Part::Swarm(Swarm::Shuffle { ttl: MAX_TTL, .. })
    ));
    let (_, part, _) = Stage::default().judge(forward(info(KNOWN, ""), u16::MAX));
    assert!(matches!(
        part,
        Part::Swarm(Swarm::ForwardJoin { ttl: MAX_TTL, .. })
    ));
    assert_eq!(Stage::default().ruling(payload(MAX_ROUND)), Ruling::Take);
    let far = Stage::default().ruling(payload(u16::MAX));
    assert!(matches!(far, Ruling::Fault(_)));
}

#[test]
fn this_node_is_nobody_whom_it_is_told_of() {
    let told = forward(info(ME, "127.0.0.1:7"), 6);
    assert_eq!(Stage::default().ruling(told), Ruling::Drop(Refused::Nobody));
    let told = shuffle(ME, vec![], 0);
    assert_eq!(Stage::default().ruling(told), Ruling::Drop(Refused::Nobody));
    let nodes = vec![info(ME, "127.0.0.1:7"), info(KNOWN, "")];
    let (ruling, part, learned) = Stage::default().judge(shuffle(FROM, nodes, 0));
    assert_eq!(ruling, Ruling::Take);
    let left = shuffle(FROM, vec![info(KNOWN, "")], 0);
    assert_eq!((part, learned), (left, vec![]));
}

#[test]
fn who_cannot_be_dialled_is_nobody() {
    // Not known, and without an address that may be told.
    let nodes = || vec![info(4, ""), info(5, "127.0.0.1:5"), info(6, "8.8.8.8:6")];
    let mut stage = Stage {
        place: Place::Public,
        ..Stage::default()
    };
    let (ruling, part, learned) = stage.judge(shuffle(FROM, nodes(), 0));
    assert_eq!(ruling, Ruling::Take);
    assert_eq!(part, shuffle(FROM, vec![info(6, "")], 0));
    assert_eq!(learned, ["6 8.8.8.8:6"]);
    let told = forward(info(4, ""), 6);
    assert_eq!(stage.ruling(told), Ruling::Drop(Refused::Nobody));
    // An invented origin is not answered.
    let walk = shuffle(4, nodes(), 0);
    assert_eq!(stage.ruling(walk), Ruling::Drop(Refused::Nobody));
}

#[test]
fn the_engine_gets_no_addresses() {
    let nodes = vec![info(4, "127.0.0.1:4"), info(KNOWN, "127.0.0.1:5")];
    let (_, part, learned) = Stage::default().judge(shuffle(FROM, nodes, 0));
    let left = shuffle(FROM, vec![info(4, ""), info(KNOWN, "")], 0);
    assert_eq!(part, left);
    assert_eq!(learned, ["4 127.0.0.1:4", "3 127.0.0.1:5"]);
    let (_, part, learned) = Stage::default().judge(join(Some("127.0.0.1:2")));
    assert_eq!(
        (part, learned),
        (join(None), vec!["2 127.0.0.1:2".to_owned()])
    );
}

#[test]
fn what_is_no_address_is_a_fault() {
    let key = "02".repeat(32);
    for data in ["", "here", "a:0", "\u{0}", &format!("{key}@127.0.0.1:7")] {
        let own = Stage::default().ruling(join(Some(data)));
        assert!(matches!(own, Ruling::Fault(_)), "{data:?}");
    }
    for part in [
        forward(info(4, "here"), 6),
        shuffle(FROM, vec![info(4, "here")], 6),
        Part::Swarm(Swarm::ShuffleReply {
            nodes: Few(vec![info(KNOWN, ""), info(4, "here")]),
        }),
        // Without keys, no node has such a number.
        Part::Swarm(Swarm::ShuffleReply {
            nodes: Few(vec![Info {
                id: [7; 32],
                data: Some(Raw(b"127.0.0.1:7")),
            }]),
        }),
    ] {
        let ruling = Stage::default().ruling(part.clone());
        assert!(matches!(ruling, Ruling::Fault(_)), "{part:?}");
    }
}

#[test]
fn a_sender_that_does_not_know_its_address_is_where_it_is_seen() {
    let mut stage = Stage {
        listen: Some("198.51.100.7:7"),
        ..Stage::default()
    };
    stage.listen = Some("9.9.9.9:7");
    for said in [None, Some("0.0.0.0:7"), Some("[::]:7")] {
        let (ruling, _, learned) = stage.judge(join(said));
        assert_eq!(ruling, Ruling::Take);
        assert_eq!(learned, ["2 9.9.9.9:7"], "{said:?}");
    }
    let (_, _, learned) = stage.judge(join(Some("8.8.8.8:7")));
    assert_eq!(learned, ["2 8.8.8.8:7"]);
    let (_, _, learned) = stage.judge(shuffle(FROM, vec![info(FROM, "")], 6));
    assert_eq!(learned, ["2 9.9.9.9:7"]);
}
