//! Authors over relays: as an extractor, and with a rate of their own.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use coalescent::extract::{Author, Body};
use coalescent::identity::{Identity, PublicKey};
use coalescent::middleware::{Next, from_fn};
use coalescent::transport::Memory;
use coalescent::{
    App, AppExt, BoxError, Courier, Frame, Mesh, MeshExt, PeerLayer, Reply, Router, Signed,
    SmartRelay,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use support::until;

type Heard = Arc<Mutex<Vec<(Option<PublicKey>, u64)>>>;

async fn start<L: PeerLayer>(network: &Memory, addr: &str, app: App<L>) -> Mesh {
    let app = app.transport(network.clone()).min_peers(0);
    app.listen(addr).await.unwrap()
}

fn hears(heard: &Heard) -> Router {
    let heard = Arc::clone(heard);
    let hear = move |author: Option<Author>, Body(number): Body<u64>| {
        let author = author.map(|author| *author.key());
        heard.lock().unwrap().push((author, number));
        async {}
    };
    Router::new().route("count", hear)
}

/// A flood by one author and a message by another, who share a connection, come to a node that
/// allows each author ten messages an hour.
#[tokio::test(start_paused = true)]
async fn a_rate_for_each_author_spares_the_others() {
    const FLOOD: u64 = 1000;
    let network = Memory::new();
    let (flooder, other) = (Identity::generate(), Identity::generate());
    let app = || App::new().with(SmartRelay::new()).with(Courier::new());

    let an_hour = Quota::per_hour(NonZeroU32::new(10).unwrap());
    let limiter: Arc<DefaultKeyedRateLimiter<PublicKey>> = Arc::new(RateLimiter::keyed(an_hour));
    let rate = move |frame: Frame, next: Next| {
        let limiter = Arc::clone(&limiter);
        async move {
            let too_much = frame
                .author()
                .is_some_and(|author| limiter.check_key(author.key()).is_err());
            if too_much {
                frame.withhold();
                return Ok::<_, BoxError>(Reply::None);
            }
            next.run(frame).await
        }
    };
    let (heard, heard_behind) = (Heard::default(), Heard::default());
    let layer = Signed::new().require();
    let limits = App::new()
        .with(SmartRelay::new().relay_after())
        .with(Courier::new())
        .with(layer.clone())
        .layer(from_fn(rate))
        .with(hears(&heard));
    let limits = start(&network, "limits:1", limits).await;
    let relay = start(&network, "relay:2", app()).await;
    let behind = App::new()
        .with(Courier::new())
        .with(Signed::new())
        .with(hears(&heard_behind));
    let behind = start(&network, "behind:3", behind).await;
    let flood = app().with(Signed::new().by(flooder.clone()));
    let flood = start(&network, "flood:4", flood).await;
    let says = app().with(Signed::new().by(other.clone()));
    let says = start(&network, "says:5", says).await;
    relay.connect("limits:1").await.unwrap();
    behind.connect("limits:1").await.unwrap();
    flood.connect("relay:2").await.unwrap();
    says.connect("relay:2").await.unwrap();

    let _ = flood.broadcast_all("count", 0..FLOOD).await.unwrap();
    until("the flood came", || layer.stats().valid == FLOOD).await;
    let _ = says.broadcast("count", &FLOOD).await.unwrap();
    until("both passed", || heard.lock().unwrap().len() == 11).await;
    until("both were relayed", || {
        heard_behind.lock().unwrap().len() == 11
    })
    .await;
    let mut expected: Vec<_> = (0..10).map(|number| (Some(flooder.id()), number)).collect();
    expected.push((Some(other.id()), FLOOD));
    assert_eq!(*heard.lock().unwrap(), expected);
    assert_eq!(*heard_behind.lock().unwrap(), expected);
    assert_eq!(limits.stats().relayed, 11);
}
