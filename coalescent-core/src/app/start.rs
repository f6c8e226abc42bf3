//! Starting an app, and the future of that.

use std::any::type_name;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::App;
use super::unregistered::unregistered;
use crate::app::registrar::Registrar;
use crate::connection::check_hello;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::mesh::runtime::{Parts, Runtime, Security, Start};
use crate::node::Peers;
use crate::node::hooks::{check_channels, check_topics};
use crate::node::layered::StackName;
use crate::stack::PeerLayer;
use crate::transport::IntoListener;

impl<L> App<L> {
    /// Starts the app, and accepts peers at `addr`: a `HOST:PORT`, where port 0 picks a free port,
    /// or an address of another scheme that the app has a [transport](App::transport) for. A host
    /// name means all addresses that it resolves to; see [`Mesh::listen`].
    ///
    /// # Errors
    ///
    /// - [`is_config`](Error::is_config) if an option or a seed is not valid.
    /// - [`is_listen`](Error::is_listen) if the address cannot be bound.
    /// - [`is_plaintext`](Error::is_plaintext) if it is not loopback, and neither
    ///   [`identity`] nor [`allow_plaintext`](App::allow_plaintext) is set.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    ///
    /// [`identity`]: https://docs.rs/coalescent/latest/coalescent/struct.App.html#method.identity
    pub fn listen(self, addr: impl AsRef<str>) -> Starting
    where
        L: PeerLayer,
    {
        let addr = addr.as_ref().to_owned();
        Starting::new(async move {
            let (mesh, start) = self.build()?;
            mesh.listen(&addr).await?;
            start.run(&mesh).await;
            Ok(mesh)
        })
    }

    /// Starts the app, and accepts peers at a socket that listens already; see
    /// [`Mesh::listen_on`].
    ///
    /// ```
    /// # use coalescent::App;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let mesh = App::new().listen_on(listener).await?;
    /// # assert_eq!(mesh.local_addrs().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`start`](App::start) and of [`Mesh::listen_on`].
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn listen_on(self, listener: impl IntoListener + Send + 'static) -> Starting
    where
        L: PeerLayer,
    {
        Starting::new(async move {
            let mesh = self.start().await?;
            mesh.listen_on(listener)?;
            Ok(mesh)
        })
    }

    /// Starts the app without accepting peers. [`Mesh::listen`] can do that later.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if an option or a seed is not valid.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(self) -> Starting
    where
        L: PeerLayer,
    {
        Starting::new(async move {
            let (mesh, start) = self.build()?;
            start.run(&mesh).await;
            Ok(mesh)
        })
    }

    /// Makes a mesh that neither accepts nor dials peers until its start has run.
    fn build(mut self) -> Result<(Mesh, Start), Error>
    where
        L: PeerLayer,
    {
        if !self.registrar.hooks.contacts.is_empty() {
            // A plugin chooses the peers.
            self.config.min_peers = 0;
        }
        self.config.check()?;
        check_topics(&self.registrar.hooks.topics)?;
        check_channels(
            &self.registrar.hooks.channels,
            &self.registrar.hooks.contacts,
        )?;
        check_hello(&self.config, &self.registrar.hooks)?;
        let seeds = self.seeds.into_iter().collect::<Result<Vec<_>, _>>()?;
        for seed in &seeds {
            self.transports.dialling(&seed.address)?;
        }
        let Registrar {
            hooks,
            mut extensions,
            tasks,
            on_start,
            on_shutdown,
            configured,
            registered,
        } = self.registrar;
        for hook in configured {
            hook(&self.config);
        }
        extensions.insert(StackName(type_name::<L>()));
        let (security, key) = Security::of(
            #[cfg(feature = "tls")]
            self.tls,
            self.allow,
            &self.transports,
            self.config.allow_plaintext,
        )?;
        let peers = Peers::with_hooks(self.config, hooks, extensions, true);
        security.set_node_key(&peers, key);
        for callback in self.callbacks {
            peers.node().call_back(peers.events_from_now(), callback);
        }
        for error in unregistered(type_name::<L>(), &registered) {
            peers.report(error);
        }
        Ok(Runtime::start(Parts {
            peers,
            layers: self.layers,
            transports: self.transports,
            security,
            seeds,
            tasks,
            on_start,
            on_shutdown,
        }))
    }
}

/// The future of [`App::listen`](crate::App::listen), [`App::listen_on`](crate::App::listen_on) and
/// [`App::start`](crate::App::start).
///
/// It has a type of its own, rather than that of an `async fn`, since the compiler would report an
/// error in a stack of layers three times for the latter.
#[must_use = "the app does not start until this is awaited"]
pub struct Starting(Pin<Box<dyn Future<Output = Result<Mesh, Error>> + Send>>);

impl Starting {
    pub(super) fn new(start: impl Future<Output = Result<Mesh, Error>> + Send + 'static) -> Self {
        Self(Box::pin(start))
    }
}

impl Future for Starting {
    type Output = Result<Mesh, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starting").finish_non_exhaustive()
    }
}
