//! How much memory peers can make a node keep, against the published numbers.
//!
//! A binary of its own: its global allocator counts the heap of the whole process, so one test runs
//! at a time.

mod calls;
mod channels;
mod contacts;
mod limits;
mod requests;

use peak_alloc::PeakAlloc;
use tokio::sync::Mutex;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Held by the running test, since all tests share one heap.
static ALONE: Mutex<()> = Mutex::const_new(());

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
