use super::*;

const GROUP: &str = "a";

fn carried(nonce: u64, payload: &'static str) -> Carried {
    Carried {
        nonce,
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

fn heard(message: &Carried) -> Heard {
    Heard::Message {
        nonce: Some(message.nonce),
        payload: message.payload.clone(),
    }
}

/// A bridge whose turn is always first, and the time.
fn first() -> (Crossing, Instant) {
    let mut now = Instant::now();
    let mut bridge = Crossing::new(1, GROUP.to_owned(), 1 << 20, now);
    bridge.engine_says(Heard::Up, 0, now);
    now += Duration::from_secs(4);
    while bridge.next_for_engine(now).is_some() {}
    (bridge, now)
}

/// Returns the messages that are said to the engine now.
fn said(bridge: &mut Crossing, now: Instant) -> Vec<Carried> {
    let all = std::iter::from_fn(|| bridge.next_for_engine(now));
    let message = |said| match said {
        Said::Message(message) => Some(message),
        Said::Note(_) => None,
    };
    all.filter_map(message).collect()
}

/// Has a bridge hear the note of another one of its mesh.
fn greet(bridge: &mut Crossing, from: u64, now: Instant) {
    let note = Turns::new(from, GROUP.to_owned(), now).beat(now).unwrap();
    bridge.engine_says(Heard::Note(note), 0, now);
}

#[test]
fn what_the_engine_has_said_does_not_go_back() {
    let (mut bridge, now) = first();
    let message = carried(7, "beep");
    bridge.engine_says(heard(&message), 0, now);
    assert_eq!(bridge.next_for_mesh(now), Some(message.clone()));
    // Another bridge has brought it in too.
    bridge.mesh_says(message, now);
    assert_eq!(said(&mut bridge, now), []);
    // The same payload with a nonce of its own is another message.
    bridge.mesh_says(carried(8, "beep"), now);
    assert_eq!(said(&mut bridge, now), [carried(8, "beep")]);
}

#[test]
fn what_the_mesh_has_said_does_not_come_back() {
    let (mut bridge, now) = first();
    let message = carried(7, "beep");
    bridge.mesh_says(message.clone(), now);
    assert_eq!(said(&mut bridge, now), [message.clone()]);
    // Its own echo, and that of a bridge that has said it too.
    bridge.engine_says(heard(&message), 0, now);
    bridge.engine_says(heard(&message), 0, now);
    assert_eq!(bridge.next_for_mesh(now), None);
    assert_eq!(said(&mut bridge, now + CONFIRM), []);
    bridge.engine_says(heard(&carried(8, "beep")), 0, now);
    assert_eq!(bridge.next_for_mesh(now), Some(carried(8, "beep")));
}

#[test]
fn waits_for_those_who_are_not_back() {
    let (mut bridge, mut now) = first();
    greet(&mut bridge, 2, now);
    let message = carried(7, "beep");
    bridge.mesh_says(message.clone(), now);
    assert_eq!(said(&mut bridge, now), [message.clone()]);
    bridge.engine_says(Heard::Down, 0, now);
    assert_eq!(said(&mut bridge, now + CONFIRM), []);
    bridge.engine_says(Heard::Up, 0, now);
    // The client has kept it, and says it too early.
    bridge.engine_says(heard(&message), 0, now);
    now += Duration::from_secs(1);
    assert_eq!(
        said(&mut bridge, now),
        [],
        "the other one would not hear it"
    );
    greet(&mut bridge, 2, now);
    assert_eq!(said(&mut bridge, now), [message.clone()]);
    bridge.engine_says(heard(&message), 0, now);
    assert!(bridge.is_done());

    // One that does not come back is not waited for any longer.
    bridge.engine_says(Heard::Down, 0, now);
    bridge.engine_says(Heard::Up, 0, now);
    bridge.mesh_says(carried(8, "boop"), now);
    assert_eq!(said(&mut bridge, now + RETURN / 2), []);
    assert_eq!(said(&mut bridge, now + RETURN), [carried(8, "boop")]);
}

#[test]
fn gives_up_what_is_never_confirmed() {
    let (mut bridge, mut now) = first();
    bridge.mesh_says(carried(7, "beep"), now);
    for _ in 0..ATTEMPTS {
        assert_eq!(said(&mut bridge, now).len(), 1);
        now += CONFIRM;
    }
    assert_eq!(said(&mut bridge, now), []);
    assert!(bridge.is_done());
    assert_eq!((bridge.stats().said, bridge.stats().unconfirmed), (1, 1));
}
