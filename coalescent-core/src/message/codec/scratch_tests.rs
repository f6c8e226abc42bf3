use std::collections::BTreeSet;

use super::*;

#[test]
fn a_message_can_be_written_while_another_is_open() {
    let mut outer = Scratch::take();
    outer.extend_from_slice(b"out");
    let mut inner = Scratch::take();
    inner.extend_from_slice(b"in");
    assert_eq!(inner.into_bytes(), "in");
    outer.extend_from_slice(b"er");
    assert_eq!(outer.into_bytes(), "outer");
    assert!(Scratch::take().is_empty());
}

#[test]
fn a_thread_recycles_a_bounded_amount() {
    let kept = || LARGE.with_borrow(|large| large.kept.iter().map(Vec::capacity).sum::<usize>());
    for len in [0, COPY_MAX, COPY_MAX + 1, 1 << 20] {
        let messages: Vec<_> = (0..100)
            .map(|_| {
                let mut out = Scratch::take();
                out.resize(len, 1);
                out.into_bytes()
            })
            .collect();
        assert!(messages.iter().all(|message| message.len() == len));
        drop(messages);
        assert!(kept() <= KEPT_MAX);
        assert_eq!(kept(), LARGE.with_borrow(|large| large.size));
    }
    drop(Scratch::take().into_bytes());
    assert!(
        Scratch::take().capacity() <= SMALL_MAX,
        "the next short message gets a small buffer"
    );
}

#[test]
fn a_message_never_holds_a_much_larger_buffer() {
    let write = |len| {
        let mut out = Scratch::take();
        out.resize(len, 1);
        out.into_bytes()
    };
    drop(write(100_000));
    let kept = write(5000);
    let place = write(100_000).as_ptr();
    assert_eq!(write(90_000).as_ptr(), place, "the buffer is free");
    assert_eq!(kept.len(), 5000);
}

#[test]
fn short_lived_short_messages_reuse_their_shared_buffer() {
    let write = |byte| {
        let mut out = Scratch::take();
        out.resize(1000, byte);
        out.into_bytes()
    };
    let places: BTreeSet<_> = (0..100).map(|byte| write(byte).as_ptr().addr()).collect();
    let span = places.last().unwrap() - places.first().unwrap();
    assert!(span < SHARED_LEN, "{places:?}");
    // Bytes that are still referenced are not overwritten.
    let held: Vec<_> = (0..100).map(write).collect();
    for (byte, message) in held.iter().enumerate() {
        assert!(message.iter().all(|there| usize::from(*there) == byte));
    }
}

#[test]
fn the_buffer_of_a_long_message_is_reused() {
    let write = || {
        let mut out = Scratch::take();
        out.resize(10_000, 1);
        out.into_bytes()
    };
    let first = write();
    let held = first.slice(10..);
    let place = first.as_ptr();
    drop(first);
    let second = write();
    assert_ne!(second.as_ptr(), place, "the buffer is in use");
    drop(held);
    assert_eq!(write().as_ptr(), place);
}
