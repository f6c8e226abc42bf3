//! How much of a peer's frames may be read before they are handled.

use super::backlog::Backlog;
use super::calls::Calls;
use crate::connection::buffer::READ_MAX;
use crate::wire::MAX_PREFIX;

/// Returns how many bytes the requests of one peer, waiting for their calls or unfinished, may hold
/// in addition to [`read_ahead`](crate::Config::read_ahead), with this
/// [`max_frame`](crate::Config::max_frame): as much as the peer sends without waiting for a reply;
/// see [`REQUEST_WINDOW`](crate::REQUEST_WINDOW).
#[must_use]
pub fn requests_ahead(max_frame: usize) -> usize {
    max_frame
        .saturating_add(MAX_PREFIX)
        .saturating_mul(2)
        .max(READ_MAX)
}

/// Returns how much of `read_ahead` is used by the memory that the waiting frames keep alive, and
/// by what unfinished calls hold beside one buffer, in bytes. Requests have room of their own, and
/// count only for what does not fit there.
///
/// If it is all used, requests are made to keep nothing else alive. `first` says whether that may
/// change the first batch.
pub(super) fn used_ahead<F>(
    backlog: &mut Backlog,
    calls: &Calls<F>,
    first: bool,
    read_ahead: usize,
) -> usize {
    let held = calls.held();
    // More than that is held by requests alone.
    let held_by_requests = held.saturating_sub(calls.data_limit());
    let room = calls.requests_limit();
    let used = |backlog: &Backlog| {
        let requests = backlog.requests_cost() + held_by_requests;
        (backlog.cost() + held).saturating_sub(requests.min(room))
    };
    if used(backlog) >= read_ahead {
        backlog.compact(first);
    }
    used(backlog)
}
