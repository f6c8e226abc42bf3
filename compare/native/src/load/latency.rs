//! How long a message takes through a hub that has little to do.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::framing::Wire;
use crate::options::Options;
use crate::report::{self, Failed, Latencies};

/// The role of one publisher and one subscriber, at a steady rate.
///
/// # Errors
///
/// Where the hub is not there, goes, or loses a message.
pub async fn latency(options: &Options) -> Result<(), Failed> {
    let wire = Wire::of(options)?;
    let mut subscriber = wire.connect(&options.addr).await?;
    let mut publisher = wire.connect(&options.addr).await?;
    let mut buf = vec![0; 64 * 1024];
    sleep(Duration::from_millis(100)).await;
    let payload = vec![b'x'; options.size];
    let mut every = interval(Duration::from_secs(1) / options.rate);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nonce = 0_u64;
    for limit in [options.warmup, options.seconds] {
        let began = Instant::now();
        let mut latencies = Latencies::default();
        while began.elapsed() < limit {
            every.tick().await;
            nonce += 1;
            let frame = wire.frame(nonce, &payload);
            let sent = Instant::now();
            publisher.write_all(&frame).await?;
            // One at a time: as many bytes as were sent are this one.
            let heard = async {
                let mut missing = frame.len();
                while missing > 0 {
                    match subscriber.read(&mut buf).await? {
                        0 => return Err("the hub has gone".into()),
                        read => missing = missing.saturating_sub(read),
                    }
                }
                Ok::<_, Failed>(())
            };
            timeout(Duration::from_secs(5), heard)
                .await
                .map_err(|_| "the hub did not pass on a message in 5 s")??;
            latencies.add(sent.elapsed());
        }
        if limit == options.seconds {
            report::print(&latencies.report(began));
        }
    }
    Ok(())
}
