//! The app that the options describe: its plugins, and its layers in their order.

use std::time::Duration;

#[cfg(feature = "mdns")]
use coalescent::discovery::mdns::Mdns;
#[cfg(feature = "overlay")]
use coalescent::overlay::Overlay;
use coalescent::transport::tls::Tls;
use coalescent::websocket::{WebSocket, Ws};
use coalescent::{
    App, AppExt, Config, Courier, Discovery, Error, Mesh, Signed, SmartRelay, Tattletale,
};
use tower::layer::util::{Identity, Stack};
use tower::limit::RateLimitLayer;
use tower::util::{Either, option_layer};

use crate::args::{Args, Author, Keys, Relay};
use crate::reply::Replies;

/// Starts `$app` with the relay around the layer `$inner`. The layer added first is outermost.
macro_rules! start {
    ($app:expr, $relay:expr, $inner:expr) => {
        match $relay {
            Relay::None => $app.layer($inner).start().await,
            Relay::Tattletale => $app.with(Tattletale::new()).layer($inner).start().await,
            Relay::Smart => $app.with(SmartRelay::new()).layer($inner).start().await,
        }
    };
}

/// Starts the app.
pub(crate) async fn start(args: Args) -> Result<Mesh, Error> {
    let relay = args.frames.relay;
    let Some(codec) = args.frames.codec.get() else {
        return start!(app(args), relay, Identity::new());
    };
    let courier = Courier::with_codec(codec);
    let replies = Replies::new(args.replies());
    if !args.keys.are_for_authors() {
        let app = app(args).plugin(courier.clone());
        return start!(app, relay, (courier, replies));
    }
    let signed = signed(&args.keys);
    let require = !args.keys.authors.is_empty();
    let app = app(args).plugin(courier.clone()).plugin(signed.clone());
    if require {
        // The relay is inside, so that it passes on only what is signed.
        start!(app.layer(courier).layer(signed), relay, replies)
    } else {
        start!(app, relay, (courier, signed, replies))
    }
}

/// The layer that limits each peer, if that is asked.
type Rate = Either<RateLimitLayer, Identity>;

/// Makes the app with all that stands outside of the relay.
fn app(args: Args) -> App<Stack<Rate, Identity>> {
    // Without a book, too, a node introduces those who ask to each other, so that any can be a
    // seed.
    let config = args.config();
    let Args {
        peers,
        frames,
        keys,
        ..
    } = args;
    let discovery = match peers.book {
        Some(file) => Discovery::new().book(file),
        None => Discovery::new().passive(true),
    };
    let websockets = websockets(&config, peers.origins);
    let app = App::from_config(config)
        .transport(websockets)
        .plugin(discovery);
    #[cfg(feature = "mdns")]
    let app = app.plugin(peers.mdns.then(Mdns::new));
    #[cfg(feature = "overlay")]
    let app = app.plugin(peers.overlay.then(Overlay::new));
    let mut app = app;
    if let Some(identity) = keys.own {
        let mut tls = Tls::new(identity);
        if !keys.allow.is_empty() {
            tls = tls.allow(keys.allow);
        }
        app = app.tls(tls);
    }
    // Frames above the limit are not relayed either.
    let rate = frames
        .rate
        .map(|frames| RateLimitLayer::new(frames, Duration::from_secs(1)));
    app.layer(option_layer(rate))
}

/// Makes the transport for `ws` and `wss`.
fn websockets(config: &Config, origins: Vec<String>) -> Ws {
    let websocket = match config.wire.name() {
        "lines" => WebSocket::lines(),
        _ => WebSocket::native(),
    };
    Ws::with(websocket.max_frame(config.max_frame))
        .allow_origin(move |origin| origins.iter().any(|known| origin == known.as_str()))
}

/// Makes the layer that checks authors, and signs if that is asked.
fn signed(keys: &Keys) -> Signed {
    let allowed = keys.authors.iter().filter_map(|author| match author {
        Author::Any => None,
        Author::Key(key) => Some(*key),
    });
    let allowed: Vec<_> = allowed.collect();
    let mut signed = match (keys.authors.is_empty(), allowed.is_empty()) {
        (true, _) => Signed::new().pass_invalid(),
        (false, true) => Signed::new().require(),
        (false, false) => Signed::new().allow(allowed),
    };
    if let Some(identity) = keys.own.as_ref().filter(|_| keys.sign) {
        signed = signed.by(identity.clone());
    }
    signed
}
