//! Which of a peer's connections takes from its outbox, and how they are woken.

use std::task::{Context, Waker};

/// The connections that take from one outbox. Only one is active at a time; when another one is
/// activated, it takes over between two frames.
pub(super) struct Takers {
    /// The connection that takes entries.
    active: u64,
    /// Wakes the active connection, while it waits for an entry.
    waker: Option<Waker>,
    /// Wakes a connection that waits to become the active one.
    standby: Option<Waker>,
}

impl Takers {
    pub(super) fn new(active: u64) -> Self {
        Self {
            active,
            waker: None,
            standby: None,
        }
    }

    #[inline]
    pub(super) fn is_active(&self, link: u64) -> bool {
        self.active == link
    }

    /// Makes `link` the active connection. Returns the wakers of both, to be woken.
    pub(super) fn activate(&mut self, link: u64) -> [Option<Waker>; 2] {
        self.active = link;
        [self.waker.take(), self.standby.take()]
    }

    /// Returns the waker of the active connection, to be woken once.
    #[inline]
    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Has the active connection woken when there is an entry.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
    }

    /// Has another connection woken when it becomes the active one.
    pub(super) fn stand_by(&mut self, cx: &Context<'_>) {
        self.standby = Some(cx.waker().clone());
    }
}
