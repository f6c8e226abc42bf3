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
fn families_alternate_and_duplicates_are_removed() {
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
enum Behaviour {
    Accepts(u64),
    Refuses(u64),
    Hangs,
}
use Behaviour::{Accepts, Hangs, Refuses};

/// Races addresses that behave as given. Returns which one was connected to, after how many
/// milliseconds, and when each was tried.
async fn run_race(behaviours: &[Behaviour]) -> (Option<usize>, u64, Vec<u64>) {
    let since = Instant::now();
    let starts = Mutex::new(Vec::new());
    let addrs = (0..behaviours.len()).map(|at| v4(at as u8)).collect();
    let result = race(addrs, |addr| {
        let at = usize::from(addr.to_string().as_bytes()[7] - b'0');
        starts
            .lock()
            .unwrap()
            .push(since.elapsed().as_millis() as u64);
        let behaviour = behaviours[at];
        async move {
            match behaviour {
                Accepts(after) => sleep(Duration::from_millis(after)).await,
                Refuses(after) => {
                    sleep(Duration::from_millis(after)).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Hangs => std::future::pending().await,
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
            assert_eq!(failures.len(), behaviours.len());
            None
        }
        Err(_) => None,
    };
    let starts = starts.into_inner().unwrap();
    (connected, since.elapsed().as_millis() as u64, starts)
}

#[tokio::test(start_paused = true)]
async fn an_unresponsive_address_does_not_block_the_others() {
    for (does, connected, after, starts) in [
        (&[Accepts(3), Accepts(0)][..], Some(0), 3, &[0][..]),
        (&[Hangs, Accepts(3)], Some(1), 253, &[0, 250]),
        (
            &[Hangs, Hangs, Hangs, Accepts(7)],
            Some(3),
            757,
            &[0, 250, 500, 750],
        ),
        // After a failure the next address is tried immediately, and then runs alone for the
        // delay.
        (&[Refuses(0), Accepts(5)], Some(1), 5, &[0, 0]),
        (
            &[Refuses(10), Hangs, Accepts(5)],
            Some(2),
            265,
            &[0, 10, 260],
        ),
        (
            &[Hangs, Refuses(20), Accepts(5)],
            Some(2),
            275,
            &[0, 250, 270],
        ),
        // The first to succeed wins, whichever was tried first.
        (&[Accepts(400), Accepts(30)], Some(1), 280, &[0, 250]),
        (&[Accepts(260), Accepts(30)], Some(0), 260, &[0, 250]),
        (&[Refuses(0), Refuses(600)], None, 600, &[0, 0]),
        (&[Hangs], None, 10_000, &[0]),
        (&[], None, 0, &[]),
    ] {
        assert_eq!(run_race(does).await, (connected, after, starts.to_vec()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_of_many_addresses_gets_most_of_the_time() {
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
