//! The latency of a message through a hub that has little to do.

use std::time::{Duration, Instant};

use common::Failed;
use common::options::Options;
use common::phase::phases;
use common::report::Latencies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::framing::Wire;

/// The role of one publisher and one subscriber, at a steady rate.
///
/// # Errors
///
/// Where the hub cannot be reached, disconnects, or loses a message.
pub async fn latency(options: &Options) -> Result<(), Failed> {
    let (wire, addr) = (Wire::of(options)?, options.addr()?);
    let mut subscriber = wire.connect(addr).await?;
    let mut publisher = wire.connect(addr).await?;
    let mut buf = vec![0; 64 * 1024];
    sleep(Duration::from_millis(100)).await;
    let mut frame = wire.messages(1, options.size);
    let mut every = interval(Duration::from_secs(1) / options.rate);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut nonce = 0_u64;
    for phase in phases(options) {
        let mut latencies = Latencies::default();
        while phase.goes_on() {
            every.tick().await;
            nonce += 1;
            wire.number(&mut frame, nonce);
            let sent = Instant::now();
            publisher.write_all(&frame).await?;
            // One message is in flight, so the next `frame.len()` bytes are this one.
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
        phase.report(latencies.result());
    }
    Ok(())
}
