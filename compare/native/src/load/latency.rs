//! How long a message takes through a hub that has little to do.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    options::Options,
    report::{self, Failed, Latencies},
    socket, wire,
};

/// The role of one publisher and one subscriber, at a steady rate.
///
/// # Errors
///
/// Where the hub is not there, goes, or loses a message.
pub async fn latency(options: &Options) -> Result<(), Failed> {
    let mut subscriber = socket::connect(&options.addr).await?;
    let mut buf = wire::hello(&mut subscriber).await?;
    let mut publisher = socket::connect(&options.addr).await?;
    wire::hello(&mut publisher).await?;
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
            let mut frame = Vec::new();
            wire::put(&mut frame, wire::BROADCAST, &nonce.to_be_bytes(), &payload);
            let sent = Instant::now();
            publisher.write_all(&frame).await?;
            let heard = async {
                loop {
                    if let Some(head) = wire::parse(&buf)? {
                        let frame = buf.split_to(head.len);
                        if frame.get(wire::FIXED..wire::BROADCAST_PREFIX)
                            == Some(&nonce.to_be_bytes())
                        {
                            return Ok::<_, Failed>(());
                        }
                        continue;
                    }
                    if subscriber.read_buf(&mut buf).await? == 0 {
                        return Err("the hub has gone".into());
                    }
                }
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
