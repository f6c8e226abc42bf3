//! A pool of the boxes that frames live in, so that a frame costs no allocation.
//!
//! Each thread has its own pool. If frames are read on one thread and dropped on another, boxes run
//! out on the first and pile up on the second. So a thread with a full pool puts a part of it into
//! a depot shared by all threads, and a thread with an empty pool takes such a part.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::inner::Inner;

/// How many boxes a thread keeps at most. About the number of frames in one read: those that layers
/// have changed wait together for the read side, and each occupies a box.
const POOL_MAX: usize = 1024;

/// How many boxes a thread keeps when a connection becomes idle.
const POOL_IDLE: usize = 32;

/// How many boxes go from one thread to another at a time.
const PART: usize = 256;

/// How many such parts the depot holds at most.
const DEPOT_MAX: usize = 8;

#[allow(clippy::vec_box, reason = "the boxes are what is reused")]
type Boxes = Vec<Box<Inner>>;

thread_local! {
    static POOL: RefCell<Boxes> = const { RefCell::new(Vec::new()) };
}

static DEPOT: Mutex<Vec<Boxes>> = Mutex::new(Vec::new());

/// The number of parts in [`DEPOT`], so that nobody locks an empty depot.
static DEPOT_LEN: AtomicUsize = AtomicUsize::new(0);

/// Takes the box of a frame that was dropped before, if there is one.
#[inline]
pub(super) fn take() -> Option<Box<Inner>> {
    // Fails while the thread ends and its thread-locals are dropped.
    let taken = POOL.try_with(|pool| pool.borrow_mut().pop());
    match taken {
        Ok(None) if DEPOT_LEN.load(Relaxed) > 0 => take_part(),
        taken => taken.ok().flatten(),
    }
}

/// Returns the box of a dropped frame, whose fields are cleared.
#[inline]
pub(super) fn put(inner: Box<Inner>) {
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() >= POOL_MAX {
            give_part(&mut pool);
        }
        pool.push(inner);
    });
}

/// Frees the depot, and all but [`POOL_IDLE`] boxes of this thread, when a connection becomes idle.
pub(crate) fn fall_idle() {
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        pool.truncate(POOL_IDLE);
        pool.shrink_to_fit();
    });
    let boxes = {
        let mut depot = depot();
        DEPOT_LEN.store(0, Relaxed);
        std::mem::take(&mut *depot)
    };
    // After the lock is released.
    drop(boxes);
}

fn depot() -> MutexGuard<'static, Vec<Boxes>> {
    DEPOT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn take_part() -> Option<Box<Inner>> {
    let mut boxes = {
        let mut depot = depot();
        let boxes = depot.pop()?;
        DEPOT_LEN.store(depot.len(), Relaxed);
        boxes
    };
    let taken = boxes.pop();
    let _ = POOL.try_with(|pool| pool.replace(boxes));
    taken
}

/// Moves a part of this thread's boxes to the depot, or frees them if the depot is full.
#[cold]
fn give_part(pool: &mut Boxes) {
    let boxes = pool.split_off(POOL_MAX - PART);
    let mut depot = depot();
    if depot.len() < DEPOT_MAX {
        depot.push(boxes);
        DEPOT_LEN.store(depot.len(), Relaxed);
    }
}
