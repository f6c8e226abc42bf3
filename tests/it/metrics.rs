//! That `docs/metrics.md` names what is there, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use coalescent::transport::Memory;
use coalescent::{App, AppExt, Courier, MeshExt, PeerExt};
use coalescent_router::Router;
use metrics_util::MetricKind;
use metrics_util::debugging::DebuggingRecorder;

const DOCS: &str = include_str!("../../docs/metrics.md");

/// Kind, unit and labels, by name.
type Table = BTreeMap<String, (String, String, BTreeSet<String>)>;

/// The words between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn documented() -> Table {
    let rows = DOCS
        .lines()
        .filter(|line| line.starts_with("| `coalescent_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = quoted(cells[1]).next().expect("a name");
        let labels = quoted(cells[4]).map(str::to_owned).collect();
        (
            name.to_owned(),
            (cells[2].to_owned(), cells[3].to_owned(), labels),
        )
    })
    .collect()
}

async fn use_all() {
    async fn nothing() {}
    let network = Memory::new();
    let app = || App::new().transport(network.clone()).with(Courier::new());
    let server = app().with(coalescent_layers::Overlay::new());
    let server = server.with(Router::new().route("beep", nothing));
    let server = server.listen("server:1").await.expect("a node");
    let client = app().start().await.expect("a node");
    let peer = client.connect("server:1").await.expect("a peer");
    assert_eq!(client.broadcast("beep", &1).await.expect("sent").queued, 1);
    assert!(peer.request("beep", &1).await.is_err(), "nobody answers");
    client.shutdown().await;
    server.shutdown().await;
}

#[test]
fn the_table_names_what_is_registered() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(use_all());
    });
    let mut registered = Table::new();
    for (key, unit, text, _) in snapshotter.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        assert!(text.is_some(), "{} lacks a description", key.name());
        let unit = unit.expect("a unit").as_str().to_owned();
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        registered.insert(key.name().to_owned(), (kind.to_owned(), unit, labels));
    }
    assert_eq!(registered, documented());
}
