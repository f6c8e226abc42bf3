//! Trying the addresses of one name: staggered, as RFC 8305 says ("Happy Eyeballs"), so that an
//! address that swallows what is sent to it keeps nobody from the others.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long an attempt is alone under way before the next address of the name is tried beside it.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The shortest such time, however many addresses there are.
const ATTEMPT_DELAY_MIN: Duration = Duration::from_millis(100);

/// Within which time all addresses should have been tried.
const SPREAD: Duration = Duration::from_secs(4);

/// How many addresses of one name are tried at most.
pub const MAX_ADDRESSES: usize = 40;

/// Puts addresses into the order in which they are tried: each once, families in turn, beginning
/// with the first one's, and no more than [`MAX_ADDRESSES`].
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
        // When one family is used up, the other goes on alone.
        if !second.is_empty() {
            std::mem::swap(&mut first, &mut second);
        }
    }
    ordered
}

/// Calls `connect` with one address after another until one succeeds: the next when one has failed,
/// or has taken its time. Those that are under way then are dropped.
///
/// # Errors
///
/// With what became of each address, where none succeeds.
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
mod tests {
    use std::sync::Mutex;

    use tokio::time::timeout;

    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, last], 1))
    }

    #[test]
    fn families_take_turns_and_each_address_comes_once() {
        let names = [v6(1), v6(2), v6(1), v6(3), v4(1), v4(2), v4(1)];
        assert_eq!(order(names), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        assert_eq!(order([v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
        assert_eq!(order([v4(2), v4(1)]), [v4(2), v4(1)]);
        assert_eq!(order([]), []);
        let many = (0..=255).map(v4).chain((0..1000).map(v6));
        let tried = order(many);
        assert_eq!(tried.len(), MAX_ADDRESSES);
        assert_eq!(tried[..4], [v4(0), v6(0), v4(1), v6(1)]);
    }

    /// What an address does, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Does {
        Accepts(u64),
        Refuses(u64),
        Swallows,
    }
    use Does::{Accepts, Refuses, Swallows};

    /// Tries addresses that do this. Returns which one was connected to, after how many
    /// milliseconds, and when each was tried.
    async fn tried(does: &[Does]) -> (Option<usize>, u64, Vec<u64>) {
        let since = Instant::now();
        let starts = Mutex::new(Vec::new());
        let addrs = (0..does.len()).map(|at| v4(at as u8)).collect();
        let result = race(addrs, |addr| {
            let at = usize::from(addr.to_string().as_bytes()[7] - b'0');
            starts
                .lock()
                .unwrap()
                .push(since.elapsed().as_millis() as u64);
            let does = does[at];
            async move {
                match does {
                    Accepts(after) => sleep(Duration::from_millis(after)).await,
                    Refuses(after) => {
                        sleep(Duration::from_millis(after)).await;
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Swallows => std::future::pending().await,
                }
                Ok(at)
            }
        });
        let result = timeout(Duration::from_secs(10), result).await;
        let connected = match result {
            Ok(Ok((at, addr))) => {
                assert_eq!(addr, v4(at as u8));
                Some(at)
            }
            Ok(Err(failures)) => {
                assert_eq!(failures.len(), does.len());
                None
            }
            Err(_) => None,
        };
        let starts = starts.into_inner().unwrap();
        (connected, since.elapsed().as_millis() as u64, starts)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_keeps_nobody_from_the_others() {
        for (does, connected, after, starts) in [
            (&[Accepts(3), Accepts(0)][..], Some(0), 3, &[0][..]),
            (&[Swallows, Accepts(3)], Some(1), 253, &[0, 250]),
            (
                &[Swallows, Swallows, Swallows, Accepts(7)],
                Some(3),
                757,
                &[0, 250, 500, 750],
            ),
            // One that fails gives way at once, and the one after it has its time alone.
            (&[Refuses(0), Accepts(5)], Some(1), 5, &[0, 0]),
            (
                &[Refuses(10), Swallows, Accepts(5)],
                Some(2),
                265,
                &[0, 10, 260],
            ),
            (
                &[Swallows, Refuses(20), Accepts(5)],
                Some(2),
                275,
                &[0, 250, 270],
            ),
            // The first that succeeds wins, whichever was tried first.
            (&[Accepts(400), Accepts(30)], Some(1), 280, &[0, 250]),
            (&[Accepts(260), Accepts(30)], Some(0), 260, &[0, 250]),
            (&[Refuses(0), Refuses(600)], None, 600, &[0, 0]),
            (&[Swallows], None, 10_000, &[0]),
            (&[], None, 0, &[]),
        ] {
            assert_eq!(tried(does).await, (connected, after, starts.to_vec()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_of_many_addresses_has_most_of_the_time() {
        let since = Instant::now();
        let addrs: Vec<_> = (0..MAX_ADDRESSES as u8).map(v4).collect();
        let last = addrs[MAX_ADDRESSES - 1];
        let connected = race(addrs, |addr| async move {
            if addr != last {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        assert_eq!(connected.await.unwrap().1, last);
        assert!(since.elapsed() <= SPREAD, "{:?}", since.elapsed());
    }
}
