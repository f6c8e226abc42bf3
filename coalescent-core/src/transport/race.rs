//! Connecting to one of several addresses of a name, with staggered attempts as in RFC 8305 ("Happy
//! Eyeballs"), so that an unresponsive address does not delay the others.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long one attempt runs alone before the next address of the name is tried concurrently.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The minimum of that delay, however many addresses there are.
const ATTEMPT_DELAY_MIN: Duration = Duration::from_millis(100);

/// The time within which all addresses should have been tried.
const SPREAD: Duration = Duration::from_secs(4);

/// The maximum number of addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 40;

/// Returns the addresses in the order in which to try them: without duplicates, alternating between
/// the address families, starting with the family of the first address, at most [`MAX_ADDRESSES`].
pub(super) fn order(addrs: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut first: VecDeque<SocketAddr> = VecDeque::new();
    let mut second: VecDeque<SocketAddr> = VecDeque::new();
    for addr in addrs {
        let same = first.front().is_none_or(|a| a.is_ipv4() == addr.is_ipv4());
        let family = if same { &mut first } else { &mut second };
        if family.len() < MAX_ADDRESSES && !family.contains(&addr) {
            family.push_back(addr);
        }
    }
    let mut ordered = Vec::new();
    while ordered.len() < MAX_ADDRESSES
        && let Some(addr) = first.pop_front()
    {
        ordered.push(addr);
        // When one family is used up, the other one continues alone.
        if !second.is_empty() {
            std::mem::swap(&mut first, &mut second);
        }
    }
    ordered
}

/// Calls `connect` for one address after another until one succeeds. The next attempt starts when
/// the previous one has failed, or has run for the delay. When one succeeds, the attempts still
/// running are dropped.
///
/// # Errors
///
/// Returns the outcome of each address if none succeeds.
pub(super) async fn race<T, F>(
    addrs: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, SocketAddr), Vec<(SocketAddr, io::Error)>>
where
    F: Future<Output = io::Result<T>>,
{
    let count = u32::try_from(addrs.len()).unwrap_or(u32::MAX).max(1);
    let delay = (SPREAD / count).clamp(ATTEMPT_DELAY_MIN, ATTEMPT_DELAY);
    let mut waiting = addrs.into_iter();
    let mut attempts = Vec::new();
    let mut failures = Vec::new();
    let mut alone = pin!(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let mut failed = false;
            let mut at = 0;
            while let Some((addr, attempt)) = attempts.get_mut(at) {
                let attempt: &mut std::pin::Pin<Box<F>> = attempt;
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(connected)) => return Poll::Ready(Ok((connected, *addr))),
                    Poll::Ready(Err(error)) => {
                        failed = true;
                        failures.push((*addr, error));
                        drop(attempts.remove(at));
                    }
                }
            }
            let due = attempts.is_empty() || failed || alone.as_mut().poll(cx).is_ready();
            let next = if due { waiting.next() } else { None };
            if let Some(addr) = next {
                attempts.push((addr, Box::pin(connect(addr))));
                alone.as_mut().reset(Instant::now() + delay);
            } else if attempts.is_empty() {
                return Poll::Ready(Err(std::mem::take(&mut failures)));
            } else {
                return Poll::Pending;
            }
        }
    })
    .await
}

#[cfg(test)]
#[path = "race_tests.rs"]
mod tests;
