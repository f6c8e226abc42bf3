//! What the tests of whole meshes share. They run on paused time, which goes on only when every
//! task waits.

use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::transport::Memory;
use coalescent_core::wire::Wire;
use coalescent_core::{App, BoxError, Frame, Mesh, MeshReader, Peer, PeerLayer, Reply};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::time::timeout;
use tower::util::BoxCloneService;

/// Longer than anything on the way of a frame takes, shorter than what the tests measure.
const QUIET: Duration = Duration::from_millis(200);

/// Starts a node at `name`, which ends in a port.
pub async fn node<L: PeerLayer>(network: &Memory, name: &str, app: App<L>) -> Mesh {
    let app = app.transport(network.clone()).min_peers(0);
    app.listen(name).await.expect("the port is free")
}

/// Reads until nobody says any more.
pub async fn heard(reader: &mut MeshReader) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(frame) = timeout(QUIET, reader.next_frame()).await {
        let frame = frame.expect("the mesh runs");
        heard.push(String::from_utf8_lossy(frame.payload()).into_owned());
    }
    heard
}

/// A peer on the `lines` wire that is no node of ours.
pub struct Lines(BufReader<DuplexStream>);

impl Lines {
    pub async fn connect(mesh: &Mesh) -> (Self, Peer) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let socket = ConnectionInfo::inbound().wire(Wire::lines());
        let peer = mesh.adopt(theirs, socket).await.expect("the mesh runs");
        (Self(BufReader::new(ours)), peer)
    }

    pub async fn say(&mut self, lines: &str) {
        self.0.get_mut().write_all(lines.as_bytes()).await.unwrap();
    }

    /// Reads until nobody says any more.
    pub async fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut line = String::new();
        while let Ok(read) = timeout(QUIET, self.0.read_line(&mut line)).await {
            assert!(read.unwrap() > 0, "the connection stays");
            heard.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        heard
    }

    pub async fn is_open(&mut self) -> bool {
        timeout(QUIET, self.0.read_u8()).await.is_err()
    }
}

/// A layer that refuses the frames whose payload contains `word`.
pub fn refuse<S>(word: &'static str) -> impl tower::Layer<S, Service = Refusing> + Clone
where
    S: tower::Service<Frame, Response = Reply, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    tower::layer::layer_fn(move |inner: S| {
        let service = tower::ServiceBuilder::new()
            .filter(move |frame: Frame| {
                let text = String::from_utf8_lossy(frame.payload()).into_owned();
                if text.contains(word) {
                    return Err(BoxError::from(format!("no {word} here")));
                }
                Ok(frame)
            })
            .service(inner);
        BoxCloneService::new(service)
    })
}

pub type Refusing = BoxCloneService<Frame, Reply, BoxError>;

/// Writes "boop" where a frame says "beep".
pub fn boop(mut frame: Frame) -> Frame {
    let text = String::from_utf8_lossy(frame.payload()).into_owned();
    if text.contains("beep") {
        frame.set_payload(text.replace("beep", "boop"));
    }
    frame
}
