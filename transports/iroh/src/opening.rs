//! Opens connections of QUIC, and accepts them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{
    ConnectOptions, Connection, ConnectionError, Incoming, QuicTransportConfig, RecvStream,
    SendStream, ServerConfig, VarInt,
};
use iroh::{Endpoint, EndpointAddr};
use tokio::sync::Semaphore;

use crate::ALPN;
use crate::error::DialError;
use crate::stream::{MAX_LINGERING, OPENING, Stream};

/// How many bytes a connection holds that the application has not read, and how many that the peer
/// has not acknowledged: 1.25 MB each, enough for 100 Mbit/s to a peer that is 100 ms away.
pub const WINDOW: u32 = 1_250_000;

/// How long a peer that dials may take from its first packet to the first byte of its stream:
/// 5 seconds.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// The code with which a connection is closed whose stream begins with an unknown byte.
const UNKNOWN: VarInt = VarInt::from_u32(1);

/// Makes connections of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    endpoint: Endpoint,
    dialled: QuicTransportConfig,
    accepted: Arc<ServerConfig>,
    lingering: Arc<Semaphore>,
}

impl Opening {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let accepted = endpoint
            .create_server_config_builder(vec![ALPN.to_vec()])
            .set_transport_config(options(1))
            .build();
        Self {
            endpoint,
            dialled: options(0),
            accepted: Arc::new(accepted),
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Dials a peer, and opens the stream.
    pub(crate) async fn dial(&self, addr: EndpointAddr) -> Result<Stream, DialError> {
        let options = ConnectOptions::new().with_transport_config(self.dialled.clone());
        let connecting = self.endpoint.connect_with_opts(addr, ALPN, options);
        let connection = connecting.await?.await?;
        let (mut send, recv) = connection.open_bi().await?;
        send.write_all(&[OPENING]).await.map_err(io::Error::from)?;
        Ok(self.stream(send, recv, connection))
    }

    /// Goes through the handshake with a peer that dials, and waits for its stream.
    pub(crate) async fn accept(&self, incoming: Incoming) -> io::Result<(Connection, Stream)> {
        let accepting = incoming.accept_with(Arc::clone(&self.accepted))?;
        let connection = accepting.await.map_err(io::Error::other)?;
        self.take(connection).await
    }

    /// Waits for the stream of a peer with which the handshake is done.
    pub(crate) async fn take(&self, connection: Connection) -> io::Result<(Connection, Stream)> {
        let (send, mut recv) = connection.accept_bi().await?;
        let mut first = [0];
        recv.read_exact(&mut first)
            .await
            .map_err(io::Error::other)?;
        if first != [OPENING] {
            connection.close(UNKNOWN, b"unknown first byte");
            return Err(ConnectionError::LocallyClosed.into());
        }
        let stream = self.stream(send, recv, connection.clone());
        Ok((connection, stream))
    }

    fn stream(&self, send: SendStream, recv: RecvStream, connection: Connection) -> Stream {
        let lingering = Arc::clone(&self.lingering);
        Stream::new(send, recv, connection, self.endpoint.clone(), lingering)
    }
}

/// The options of connections on which the peer may open `streams` streams. By default it could
/// open 200, and have a window held for each.
fn options(streams: u32) -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .build()
}
