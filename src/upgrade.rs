//! Peers that come over HTTP: a service that upgrades connections to `coalescent/1`.
//!
//! A program asks a web server for an upgrade, and is then a peer on the native wire of the
//! server's mesh, through the same port, proxies and TLS as the site:
//!
//! ```text
//! GET /mesh HTTP/1.1                       HTTP/1.1 101 Switching Protocols
//! Host: example.org                        connection: upgrade
//! Connection: upgrade                      upgrade: coalescent/1
//! Upgrade: coalescent/1
//! ```
//!
//! [`Upgrade`] is a tower service for any server on hyper that serves with upgrades:
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use axum::Router;
//! use axum::extract::ConnectInfo;
//! use coalescent::App;
//! use coalescent::upgrade::Upgrade;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = App::new().start().await?;
//! let upgrade = Upgrade::new(&mesh).remote_addr(|extensions| {
//!     let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
//!     Some(*addr)
//! });
//! let site: Router = Router::new().route_service("/mesh", upgrade);
//! // Serve it, with the addresses of those who connect:
//! let service = site.into_make_service_with_connect_info::<SocketAddr>();
//! # drop(service);
//! # Ok(())
//! # }
//! ```
//!
//! # How to join
//!
//! A program that is to be a peer asks for the upgrade, reads the head of the answer, and no
//! further, since what follows it is the peer's; then it has its mesh [adopt](Mesh::adopt) the
//! connection. For a site behind TLS, it does so within the TLS of the site.
//!
//! ```
//! use std::error::Error;
//! use std::io;
//! use std::net::SocketAddr;
//!
//! use coalescent::connection::ConnectionInfo;
//! use coalescent::upgrade::PROTOCOL;
//! use coalescent::{Mesh, Peer};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::TcpStream;
//!
//! const HEAD_MAX: usize = 8 * 1024;
//!
//! async fn upgraded(site: SocketAddr) -> io::Result<TcpStream> {
//!     let mut socket = TcpStream::connect(site).await?;
//!     let request = format!(
//!         "GET /mesh HTTP/1.1\r\nHost: {site}\r\n\
//!          Connection: upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
//!     );
//!     socket.write_all(request.as_bytes()).await?;
//!     let mut head = Vec::new();
//!     while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
//!         head.push(socket.read_u8().await?);
//!     }
//!     if !head.starts_with(b"HTTP/1.1 101 ") || !head.ends_with(b"\r\n\r\n") {
//!         return Err(io::Error::other("the server does not upgrade"));
//!     }
//!     Ok(socket)
//! }
//!
//! async fn join(mesh: &Mesh, site: SocketAddr) -> Result<Peer, Box<dyn Error>> {
//!     let socket = upgraded(site).await?;
//!     Ok(mesh.adopt(socket, ConnectionInfo::outbound().addr(site)).await?)
//! }
//! # use axum::Router;
//! # use axum::extract::ConnectInfo;
//! # use coalescent::App;
//! # use coalescent::upgrade::Upgrade;
//! # async fn serve(mesh: &Mesh) -> io::Result<SocketAddr> {
//! #     let upgrade = Upgrade::new(mesh).remote_addr(|extensions| {
//! #         extensions.get().map(|ConnectInfo(addr)| *addr)
//! #     });
//! #     let site: Router = Router::new().route_service("/mesh", upgrade);
//! #     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! #     let addr = listener.local_addr()?;
//! #     let service = site.into_make_service_with_connect_info::<SocketAddr>();
//! #     tokio::spawn(async move { axum::serve(listener, service).await });
//! #     Ok(addr)
//! # }
//! # async fn joins() -> Result<(), Box<dyn Error>> {
//! # let mesh = App::new().start().await?;
//! # let site = serve(&mesh).await?;
//! # let other = App::new().start().await?;
//! # join(&other, site).await?;
//! # mesh.connected(1).await?;
//! # Ok(())
//! # }
//! #
//! # #[cfg(feature = "tls")]
//! # mod secure {
//! # use super::*;
//! use coalescent::identity::{Identity, PublicKey};
//! use coalescent::transport::tls::Tls;
//!
//! // Where the mesh has an identity, both sides prove their keys: `me` is the app's identity, and
//! // `id` who is expected at the site.
//! async fn join_secure(
//!     mesh: &Mesh,
//!     me: Identity,
//!     site: SocketAddr,
//!     id: PublicKey,
//! ) -> Result<Peer, Box<dyn Error>> {
//!     let (stream, id) = Tls::new(me).connect(upgraded(site).await?, Some(id)).await?;
//!     let info = ConnectionInfo::outbound().addr(site).key(*id.as_bytes());
//!     Ok(mesh.adopt(stream, info).await?)
//! }
//! # pub(super) async fn joins() -> Result<(), Box<dyn Error>> {
//! # let (mine, theirs) = (Identity::generate(), Identity::generate());
//! # let mesh = App::new().identity(theirs.clone()).start().await?;
//! # let site = serve(&mesh).await?;
//! # let other = App::new().identity(mine.clone()).start().await?;
//! # join_secure(&other, mine, site, theirs.id()).await?;
//! # mesh.connected(1).await?;
//! # Ok(())
//! # }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! # joins().await?;
//! # #[cfg(feature = "tls")]
//! # secure::joins().await?;
//! # Ok(())
//! # }
//! ```
//!
//! These functions wait as long as the server likes: put a [timeout](tokio::time::timeout) around
//! them.
//!
//! # Who may join
//!
//! A connection is taken in as by [`Mesh::accept`]: within the mesh's limits of inbound
//! connections, and, if the app has an identity, with its own TLS inside of the upgraded
//! connection, so that peers prove their keys to each other through any proxy. Without an identity,
//! the address of the other end must be loopback, such as that of a proxy on this machine, unless
//! plaintext is allowed.
//!
//! Pages in browsers cannot ask for this upgrade. A server that has other rules checks them in
//! layers around the service.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use coalescent_core::{Admitted, Mesh, WeakMesh, Wire};
use http::header::{CONNECTION, UPGRADE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tower_service::Service;

/// The protocol that the `Upgrade` header names.
pub const PROTOCOL: &str = "coalescent/1";

type RemoteAddr = dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync;

/// A service that answers requests to upgrade to [`PROTOCOL`], and makes their connections peers.
///
/// Cheap to clone. It does not keep the mesh running.
///
/// | answer | when |
/// |---|---|
/// | 101 | the connection becomes a peer |
/// | 403 | plaintext is not allowed from the address of the other end |
/// | 426 | the request does not ask for this upgrade |
/// | 500 | the server has no upgrades, or does not tell the address; the text says what to do |
/// | 503 | no place is left, or the mesh has ended |
///
/// What becomes of the connection afterwards, such as a handshake that fails, is in the log.
///
/// The [extensions](http::Request::extensions) of the request are kept until the peer has
/// disconnected, so that a guard among them holds its place as long.
#[derive(Clone)]
pub struct Upgrade {
    mesh: WeakMesh,
    remote_addr: Arc<RemoteAddr>,
}

impl Upgrade {
    /// Makes the service for a mesh. It takes the address of the other end from a [`SocketAddr`]
    /// among the extensions of the request.
    #[must_use]
    pub fn new(mesh: &Mesh) -> Self {
        Self {
            mesh: mesh.downgrade(),
            remote_addr: Arc::new(|extensions| extensions.get().copied()),
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
        if !Self::is_asked(&request) {
            let text = "this becomes a peer: ask for an upgrade to coalescent/1\n";
            return upgraded(StatusCode::UPGRADE_REQUIRED, text);
        }
        let admitted = match self.admit(request.extensions()).await {
            Ok(admitted) => admitted,
            Err((status, text)) => return answer(status, &text),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let kept = std::mem::take(request.extensions_mut());
        tokio::spawn(async move {
            enter(admitted, upgrade).await;
            drop(kept);
        });
        upgraded(StatusCode::SWITCHING_PROTOCOLS, "")
    }

    /// Takes a place for the connection of a request.
    async fn admit(&self, extensions: &Extensions) -> Result<Admitted, (StatusCode, String)> {
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
        mesh.admit(addr).await.map_err(|error| {
            tracing::debug!(%addr, %error, "no upgrade");
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
        })
    }
}

/// Makes a peer of an upgraded connection, and waits until it has disconnected.
async fn enter(admitted: Admitted, upgrade: OnUpgrade) {
    let io = match upgrade.await {
        Ok(io) => TokioIo::new(io),
        Err(error) => {
            tracing::debug!(%error, "a connection was not upgraded");
            return;
        }
    };
    match admitted.wire(Wire::native()).accept(io).await {
        Ok(peer) => {
            peer.closed().await;
        }
        Err(error) => tracing::warn!(%error, "an upgraded connection did not become a peer"),
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

/// Returns an answer that names the upgrade.
fn upgraded(status: StatusCode, text: &str) -> Response<String> {
    let mut answer = Response::new(text.to_owned());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
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
