//! The transport for `ws://` and `wss://` addresses.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use coalescent_core::Address;
use coalescent_core::transport::{
    BoxFuture, BoxIo, Connected, Listener, Protection, Tcp, Transport,
};
use http::HeaderValue;
use tokio_tungstenite::WebSocketStream;

use super::dial;
use super::io::WebSocketIo;
use super::kind::WebSocket;
use super::listen::{WsListener, place};
#[cfg(feature = "wss")]
use super::tls::Roots;

/// A WebSocket over a connection of this transport.
pub(super) type Carried = WebSocketIo<WebSocketStream<BoxIo>>;

pub(super) type AllowOrigin = dyn Fn(&HeaderValue) -> bool + Send + Sync;

/// A transport for `ws://` and `wss://` addresses: to dial peers at web servers, and to listen
/// without a web server.
///
/// ```no_run
/// use coalescent::App;
/// use coalescent::websocket::Ws;
///
/// # async fn start() -> Result<(), coalescent::Error> {
/// let mesh = App::new()
///     .transport(Ws::new())
///     .seeds(["wss://example.org/mesh"])
///     .listen("ws://127.0.0.1:8080/mesh").await?;
/// # drop(mesh);
/// # Ok(())
/// # }
/// ```
///
/// It is added to the app's other transports. The connect timeout covers the handshakes of TLS and
/// of the WebSocket. All peers at its addresses are on one wire, which is to be the app's: native
/// in binary messages by default, lines in text with
/// [`WebSocket::lines`].
///
/// # What it proves
///
/// With an identity, the app speaks its own TLS inside of the WebSocket, and both peers prove their
/// keys, whatever server or proxy is between them. Without one, `ws` is plaintext, and allowed as
/// such. `wss` is encrypted up to the server, whose certificate proves its name, not who the peer
/// is; so an app without an identity may dial it.
///
/// # Listening
///
/// What asks for a WebSocket at the path that is listened at becomes a peer, unless it comes from a
/// page whose origin [`allow_origin`](Self::allow_origin) does not allow. Others are answered with
/// an HTTP status: 404 at another path, 403 from another page, and 503 if there is no place, or the
/// request does not come in time. A web server can do more: see
/// [`Upgrade`](crate::upgrade::Upgrade).
#[derive(Clone)]
pub struct Ws {
    websocket: WebSocket,
    allow_origin: Option<Arc<AllowOrigin>>,
    #[cfg(feature = "wss")]
    roots: Roots,
}

impl Ws {
    /// Makes a transport for the native wire. For `wss`, it trusts the root certificates of the
    /// machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with(WebSocket::native())
    }

    /// Makes a transport whose WebSockets become byte streams as told.
    #[must_use]
    pub fn with(websocket: WebSocket) -> Self {
        Self {
            websocket,
            allow_origin: None,
            #[cfg(feature = "wss")]
            roots: Roots::default(),
        }
    }

    /// Sets which pages may join where this transport listens, by the `Origin` that a browser
    /// sends, such as `https://example.org`. By default none may. Programs, which send none, always
    /// may.
    #[must_use]
    pub fn allow_origin(
        mut self,
        allow: impl Fn(&HeaderValue) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.allow_origin = Some(Arc::new(allow));
        self
    }

    /// Trusts only these root certificates for `wss`, in PEM, in place of those of the machine.
    ///
    /// # Errors
    ///
    /// Fails if there is no certificate in it, or one that cannot be read.
    #[cfg(feature = "wss")]
    pub fn roots(mut self, pem: impl AsRef<[u8]>) -> io::Result<Self> {
        self.roots = Roots::from_pem(pem.as_ref())?;
        Ok(self)
    }

    /// Returns how its WebSockets become byte streams.
    pub(super) fn websocket(&self) -> &WebSocket {
        &self.websocket
    }

    /// Returns whether a page of this origin may join.
    pub(super) fn allows(&self, origin: &HeaderValue) -> bool {
        let allow = self.allow_origin.as_ref();
        allow.is_some_and(|allow| allow(origin))
    }

    /// Makes the connection encrypted, to the server of that name.
    #[cfg(feature = "wss")]
    pub(super) async fn encrypt(&self, io: BoxIo, host: &str) -> io::Result<BoxIo> {
        self.roots.connect(io, host).await
    }

    #[cfg(not(feature = "wss"))]
    pub(super) async fn encrypt(&self, _: BoxIo, _: &str) -> io::Result<BoxIo> {
        let text = "wss needs the feature `wss` of coalescent";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}

impl Default for Ws {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ws")
            .field("websocket", &self.websocket)
            .finish_non_exhaustive()
    }
}

impl Transport for Ws {
    fn schemes(&self) -> &[&str] {
        &["ws", "wss"]
    }

    fn protection(&self, scheme: &str) -> Protection {
        match scheme {
            "wss" => Protection::Encrypted,
            _ => Protection::Plain,
        }
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (at, path) = place(addr)?;
            let below = Tcp.listen(at).await?;
            Ok(Box::new(WsListener::new(below, self.clone(), path)) as Box<dyn Listener>)
        })
    }

    fn listen_all<'a>(
        &'a self,
        addr: &'a str,
    ) -> BoxFuture<'a, io::Result<Vec<Box<dyn Listener>>>> {
        Box::pin(async move {
            let (at, path) = place(addr)?;
            let all = Tcp.listen_all(at).await?.into_iter();
            let listener = |below| Box::new(WsListener::new(below, self.clone(), path));
            Ok(all
                .map(|below| listener(below) as Box<dyn Listener>)
                .collect())
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(dial::connect(self, addr, permit))
    }

    fn local_addr(&self, io: &BoxIo) -> Option<SocketAddr> {
        let io: &dyn Any = &**io;
        // With TLS below there is none: what this node hears may come from a proxy.
        Tcp.local_addr(io.downcast_ref::<Carried>()?.get_ref().get_ref())
    }
}
