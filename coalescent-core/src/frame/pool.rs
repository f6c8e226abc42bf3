//! Boxes that are used again for frames to come, so that a frame costs no allocation.
//!
//! Each thread has its own. Where frames are read in another thread than the one that made them,
//! boxes run out in the one and pile up in the other: so a thread that has many leaves some for the
//! threads that have none, many at a time.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Inner;

/// How many boxes a thread keeps: about as many as one read may bring, since frames that layers
/// have added something to wait together for the read side.
const MAX: usize = 1024;

/// How many of them are kept where connections fall idle.
const IDLE: usize = 32;

/// How many boxes go from thread to thread at a time.
const SHARED: usize = 256;

/// How many times as many wait for a thread that has none.
const DEPOT: usize = 8;

/// Boxes, so that a frame gets one as it is.
#[allow(clippy::vec_box, reason = "it is the boxes that are kept")]
type Boxes = Vec<Box<Inner>>;

thread_local! {
    static POOL: RefCell<Boxes> = const { RefCell::new(Vec::new()) };
}

static SPARE: Mutex<Vec<Boxes>> = Mutex::new(Vec::new());

/// How many there are in [`SPARE`], so that nobody takes the lock for nothing.
static SPARES: AtomicUsize = AtomicUsize::new(0);

/// The box of a frame that was dropped before, if there is one.
#[inline]
pub(super) fn take() -> Option<Box<Inner>> {
    // The thread may be at its end.
    let taken = POOL.try_with(|pool| pool.borrow_mut().pop());
    match taken {
        Ok(None) if SPARES.load(Relaxed) > 0 => take_spare(),
        taken => taken.ok().flatten(),
    }
}

/// Keeps the box of a frame that is dropped.
#[inline]
pub(super) fn put(inner: Box<Inner>) {
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() >= MAX {
            give_spare(&mut pool);
        }
        pool.push(inner);
    });
}

/// Gives back what is kept for frames to come, but for a few of this thread's.
pub(crate) fn fall_idle() {
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        pool.truncate(IDLE);
        pool.shrink_to_fit();
    });
    let boxes = {
        let mut spare = spare();
        SPARES.store(0, Relaxed);
        std::mem::take(&mut *spare)
    };
    drop(boxes);
}

fn spare() -> MutexGuard<'static, Vec<Boxes>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn take_spare() -> Option<Box<Inner>> {
    let mut boxes = {
        let mut spare = spare();
        let boxes = spare.pop()?;
        SPARES.store(spare.len(), Relaxed);
        boxes
    };
    let taken = boxes.pop();
    let _ = POOL.try_with(|pool| pool.replace(boxes));
    taken
}

/// Leaves some of a thread's boxes for others, or, where nobody takes them, for nobody.
#[cold]
fn give_spare(pool: &mut Boxes) {
    let boxes = pool.split_off(MAX - SHARED);
    let mut spare = spare();
    if spare.len() < DEPOT {
        spare.push(boxes);
        SPARES.store(spare.len(), Relaxed);
    }
}
