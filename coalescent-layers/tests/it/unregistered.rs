//! Plugins that were added as layers only.

use coalescent_core::{App, AppExt, Event, Mesh, PeerLayer};
#[cfg(feature = "overlay")]
use coalescent_layers::Overlay;
use coalescent_layers::discovery::book::AddressBook;
use coalescent_layers::discovery::exchange::Exchange;
#[cfg(feature = "mdns")]
use coalescent_layers::discovery::mdns::Mdns;
use coalescent_layers::{Discovery, SmartRelay, Streams};
use futures_util::FutureExt;
use tower::util::option_layer;

/// The errors among the events from the start of the mesh.
fn errors(mesh: &Mesh) -> Vec<String> {
    let mut events = mesh.events();
    std::iter::from_fn(|| events.next().now_or_never().flatten())
        .filter_map(|event| match event {
            Event::Error { error, .. } => Some(error.to_string()),
            _ => None,
        })
        .collect()
}

async fn errors_of<L: PeerLayer>(app: App<L>) -> Vec<String> {
    let mesh = app.start().await.unwrap();
    errors(&mesh)
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_was_only_layered_says_so_at_the_start() {
    let book = AddressBook::new();
    let exchange = Exchange::new(book.book());
    let layered = [
        (
            "SmartRelay",
            errors_of(App::new().layer(SmartRelay::new())).await,
        ),
        (
            "Discovery",
            errors_of(App::new().layer(Discovery::new())).await,
        ),
        (
            "AddressBook",
            errors_of(App::new().layer(book.clone())).await,
        ),
        ("Exchange", errors_of(App::new().layer(exchange)).await),
        ("Streams", errors_of(App::new().layer(Streams::new())).await),
        #[cfg(feature = "mdns")]
        ("Mdns", errors_of(App::new().layer(Mdns::new())).await),
        #[cfg(feature = "overlay")]
        ("Overlay", errors_of(App::new().layer(Overlay::new())).await),
    ];
    for (name, errors) in layered {
        let [error] = &errors[..] else {
            panic!("{name}: {errors:?}");
        };
        assert!(
            error.contains(name) && error.contains("use `.with(..)`"),
            "{error}"
        );
    }
    let app = App::new()
        .with(SmartRelay::new())
        .with(Discovery::new())
        .with(Streams::new());
    assert!(errors_of(app).await.is_empty());
    // Registered apart from its layer.
    let relay = SmartRelay::new();
    assert!(
        errors_of(App::new().plugin(relay.clone()).layer(relay))
            .await
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_left_out_is_no_error() {
    let streams = |wanted: bool| {
        let streams = wanted.then(Streams::new);
        let app = App::new().plugin(streams.clone());
        errors_of(app.layer(option_layer(streams)))
    };
    assert_eq!(streams(true).await, [""; 0]);
    assert_eq!(streams(false).await, [""; 0]);
}
