#![doc = include_str!("../../docs/upgrade.md")]

mod entering;
#[cfg(feature = "websocket")]
mod handshake;
mod origin;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use coalescent_core::{Admitted, Mesh, Peer, WeakMesh};
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use tower_service::Service;

use self::entering::{Asked, Entering, upgraded};

#[cfg(feature = "websocket")]
pub use crate::websocket::WebSocket;

/// The protocol that the `Upgrade` header names.
pub const PROTOCOL: &str = "coalescent/1";

type RemoteAddr = dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync;
type AllowOrigin = dyn Fn(&HeaderValue) -> bool + Send + Sync;
type OnJoin = dyn Fn(&Peer, &Extensions) + Send + Sync;

/// A service that answers requests to upgrade to [`PROTOCOL`], or to a WebSocket if it is told to,
/// and makes their connections peers.
///
/// Cheap to clone. It does not keep the mesh running.
///
/// | answer | when |
/// |---|---|
/// | 101 | the connection becomes a peer |
/// | 400 | the request for a WebSocket is of another version than 13, or has no key |
/// | 403 | a page of another server asks, or the connection would not be secure enough |
/// | 426 | the request does not ask for an upgrade that is known here |
/// | 500 | the server has no upgrades, or does not tell the address; the text says what to do |
/// | 503 | no place is left, or the mesh has ended |
///
/// What becomes of the connection afterwards, such as a handshake that fails, is in the log.
///
/// The [extensions](http::Request::extensions) of the request are kept until the peer has
/// disconnected, so that a guard among them holds its place as long.
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::extract::ConnectInfo;
/// use coalescent::App;
/// use coalescent::upgrade::{PROTOCOL, Upgrade};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = App::new().start().await?;
/// let upgrade = Upgrade::new(&mesh)
///     .remote_addr(|extensions| extensions.get().map(|ConnectInfo(addr)| *addr))
///     .on_join(|peer, _| println!("{} has come over HTTP", peer.id()));
/// let site = axum::Router::new().route_service("/mesh", upgrade);
/// let service = site.into_make_service_with_connect_info::<SocketAddr>();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let addr = listener.local_addr()?;
/// tokio::spawn(async move { axum::serve(listener, service).await });
///
/// // What a program that joins asks for, and is told.
/// let mut socket = tokio::net::TcpStream::connect(addr).await?;
/// let ask = format!(
///     "GET /mesh HTTP/1.1\r\nHost: {addr}\r\nConnection: upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
/// );
/// socket.write_all(ask.as_bytes()).await?;
/// let mut status = [0; 12];
/// socket.read_exact(&mut status).await?;
/// assert_eq!(&status, b"HTTP/1.1 101");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Upgrade {
    mesh: WeakMesh,
    remote_addr: Arc<RemoteAddr>,
    allow_origin: Option<Arc<AllowOrigin>>,
    hosts: Arc<[String]>,
    on_join: Option<Arc<OnJoin>>,
    #[cfg(feature = "websocket")]
    websocket: Option<WebSocket>,
}

/// A status and a text that says why.
type Refused = (StatusCode, String);

impl Upgrade {
    /// Makes the service for a mesh. It takes the address of the other end from a [`SocketAddr`]
    /// among the extensions of the request.
    #[must_use]
    pub fn new(mesh: &Mesh) -> Self {
        Self {
            mesh: mesh.downgrade(),
            remote_addr: Arc::new(|extensions| extensions.get().copied()),
            allow_origin: None,
            hosts: Arc::default(),
            on_join: None,
            #[cfg(feature = "websocket")]
            websocket: None,
        }
    }

    /// Sets where the address of the other end is among the extensions of a request. By it,
    /// connections are counted and reported.
    #[must_use]
    pub fn remote_addr(
        mut self,
        find: impl Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        self.remote_addr = Arc::new(find);
        self
    }

    /// Answers requests for WebSockets too, and makes peers of them. By default they are refused.
    ///
    /// ```
    /// # use coalescent::App;
    /// use coalescent::upgrade::{Upgrade, WebSocket};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mesh = App::new().start().await?;
    /// // Pages send and hear a line in each message.
    /// let upgrade = Upgrade::new(&mesh).websocket(WebSocket::lines().messages_per_second(100));
    /// # drop(upgrade);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn websocket(mut self, websocket: WebSocket) -> Self {
        self.websocket = Some(websocket);
        self
    }

    /// Sets the names of the server, such as `example.org`, without a port. Its own pages may join
    /// if it is asked by one of them, by an IP address, or as `localhost`. Pages at other names may
    /// not: a name of strangers may lead to its address (DNS rebinding). Default: none.
    #[must_use]
    pub fn hosts<H: Into<String>>(mut self, names: impl IntoIterator<Item = H>) -> Self {
        self.hosts = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets which pages of other servers may join, by the `Origin` that a browser sends, such as
    /// `https://example.org`. By default none may.
    #[must_use]
    pub fn allow_origin(
        mut self,
        allow: impl Fn(&HeaderValue) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.allow_origin = Some(Arc::new(allow));
        self
    }

    /// Sets what is called with each peer once it is connected, and with the extensions of the
    /// request by which it has come, such as who has logged in. The peer's first frames may be
    /// handled before.
    #[must_use]
    pub fn on_join(mut self, joined: impl Fn(&Peer, &Extensions) + Send + Sync + 'static) -> Self {
        self.on_join = Some(Arc::new(joined));
        self
    }

    /// Returns whether a request asks for a WebSocket, of whatever version.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn is_websocket<B>(request: &Request<B>) -> bool {
        handshake::is_asked(request)
    }

    /// Returns whether a request asks for an upgrade to [`PROTOCOL`].
    #[must_use]
    pub fn is_asked<B>(request: &Request<B>) -> bool {
        request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && has_word(request.headers(), &CONNECTION, "upgrade")
            && has_word(request.headers(), &UPGRADE, PROTOCOL)
    }

    /// Answers a request, and makes a peer of its connection once the answer is written.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub async fn join<B>(&self, mut request: Request<B>) -> Response<String> {
        let asked = match self.asked(&request) {
            Ok(asked) => asked,
            Err((StatusCode::UPGRADE_REQUIRED, text)) => {
                return upgraded(StatusCode::UPGRADE_REQUIRED, &text, self.protocols());
            }
            Err((status, text)) => {
                let mut answer = answer(status, &text);
                if status == StatusCode::BAD_REQUEST {
                    // What a client of another version looks for.
                    let headers = answer.headers_mut();
                    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                }
                return answer;
            }
        };
        let (admitted, max_frame) = match self.admit(request.extensions(), &asked).await {
            Ok(admitted) => admitted,
            Err((status, text)) => return answer(status, &text),
        };
        let answer = asked.answer();
        let entering = Entering {
            upgrade: hyper::upgrade::on(&mut request),
            asked,
            admitted,
            max_frame,
        };
        let kept = std::mem::take(request.extensions_mut());
        let on_join = self.on_join.clone();
        tokio::spawn(async move {
            if let Some(peer) = entering.enter().await {
                if let Some(on_join) = on_join {
                    on_join(&peer, &kept);
                }
                peer.closed().await;
            }
            drop(kept);
        });
        answer
    }

    /// Decides what a request asks for, and whether it may.
    fn asked<B>(&self, request: &Request<B>) -> Result<Asked, Refused> {
        if !self.may_come(request.headers()) {
            let text = "only pages of this server may join: at an IP address, at localhost, or at \
                        a name that `Upgrade::hosts` is told"
                .to_owned();
            return Err((StatusCode::FORBIDDEN, text));
        }
        if has_body(request.headers()) {
            // What follows it could be taken for the frames of a peer by one side, and for the body
            // by a proxy between them.
            let text = "an upgrade is asked for without a body\n".to_owned();
            return Err((StatusCode::BAD_REQUEST, text));
        }
        if Self::is_asked(request) {
            return Ok(Asked::Native);
        }
        #[cfg(feature = "websocket")]
        if let Some(websocket) = &self.websocket
            && handshake::is_asked(request)
        {
            return match handshake::accept(request.headers()) {
                Ok(accept) => Ok(Asked::WebSocket(websocket.clone(), accept)),
                Err(text) => Err((StatusCode::BAD_REQUEST, text.to_owned())),
            };
        }
        let protocols = self.protocols();
        let text = format!("this becomes a peer: ask for an upgrade to {protocols}\n");
        Err((StatusCode::UPGRADE_REQUIRED, text))
    }

    /// Returns whether a request does not come from a page, or from one that may join.
    fn may_come(&self, headers: &HeaderMap) -> bool {
        match origin::of(headers) {
            Ok(None) => true,
            Ok(Some(page)) => {
                origin::is_same(page, headers, &self.hosts)
                    || self.allow_origin.as_ref().is_some_and(|allow| allow(page))
            }
            Err(()) => false,
        }
    }

    /// Returns what can be asked for, as the `Upgrade` header has it.
    fn protocols(&self) -> &'static str {
        #[cfg(feature = "websocket")]
        if self.websocket.is_some() {
            return "coalescent/1, websocket";
        }
        PROTOCOL
    }

    /// Takes a place for the connection of a request. Returns the mesh's limit of frames too.
    async fn admit(
        &self,
        extensions: &Extensions,
        asked: &Asked,
    ) -> Result<(Admitted, usize), Refused> {
        let broken = |text: &str| {
            tracing::error!("{text}");
            (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
        };
        if extensions.get::<OnUpgrade>().is_none() {
            return Err(broken(
                "this connection has no upgrades: serve it with `serve_connection_with_upgrades`",
            ));
        }
        let addr = (self.remote_addr)(extensions).ok_or_else(|| {
            broken(
                "the address of the other end is not known: insert it in the extensions of the \
                 request, or set `remote_addr` of the upgrade",
            )
        })?;
        let Some(mesh) = self.mesh.upgrade() else {
            let text = "the mesh has ended".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, text));
        };
        if asked.is_without_tls() && has_identity(&mesh) {
            return Err((
                StatusCode::FORBIDDEN,
                "peers prove their keys here, which text messages cannot carry".to_owned(),
            ));
        }
        let admitted = mesh.admit(addr).await.map_err(|error| {
            tracing::debug!(%addr, error = %error.report(), "no upgrade");
            match error.is_plaintext() {
                true => (
                    StatusCode::FORBIDDEN,
                    "plaintext is not allowed from there".to_owned(),
                ),
                false => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no place for another peer: try again later".to_owned(),
                ),
            }
        })?;
        Ok((admitted, mesh.peers().config().max_frame))
    }
}

/// Returns whether the mesh speaks TLS with its peers.
fn has_identity(mesh: &Mesh) -> bool {
    #[cfg(feature = "tls")]
    return mesh.public_key().is_some();
    #[cfg(not(feature = "tls"))]
    {
        let _ = mesh;
        false
    }
}

/// Returns whether a header has `word` in its list, which is separated by commas.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

fn answer(status: StatusCode, text: &str) -> Response<String> {
    let mut answer = Response::new(format!("{text}\n"));
    *answer.status_mut() = status;
    answer
}

impl<B: Send + 'static> Service<Request<B>> for Upgrade {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        // Its body is not read, and need not be `Sync`.
        let request = request.map(drop);
        Box::pin(async move { Ok(this.join(request).await) })
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

/// Returns whether a request says that it has a body.
fn has_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
    headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0")
}
