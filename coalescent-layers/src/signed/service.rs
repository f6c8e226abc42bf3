//! The service: checks each message, and signs the replies.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coalescent_core::identity::Author;
use coalescent_core::transport::tls::Allow;
use coalescent_core::{BoxError, CloneService, Error, Frame, Peers, Reply};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::shared::{Finding, Shared};

/// What is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) require: bool,
    pub(super) pass_invalid: bool,
    pub(super) allow: Allow,
    pub(super) signs: bool,
}

/// The service that [`Signed`](super::Signed) puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct SignedService<S> {
    inner: S,
    shared: Arc<Shared>,
    options: Options,
}

impl<S> SignedService<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, options: Options) -> Self {
        Self {
            inner,
            shared,
            options,
        }
    }

    crate::macros::inner_accessors!(S);

    /// Returns the author of a message that is passed inward, if it is known; an error if the
    /// message is withheld.
    fn judge(&self, frame: &Frame) -> Result<Option<Author>, NotProven> {
        let finding = match frame.message() {
            Some(message) => {
                let peers = frame.peer().peers();
                let network = &peers.config().network;
                self.shared.judge(network, message, &self.options.allow)
            }
            None => Finding::Unsigned,
        };
        match finding {
            Finding::Valid(author) => Ok(Some(author)),
            _ if self.options.require => Err(NotProven(finding)),
            Finding::Unsigned => Ok(None),
            _ if self.options.pass_invalid => Ok(None),
            _ => Err(NotProven(finding)),
        }
    }
}

impl<S> Service<Frame> for SignedService<S>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>> + CloneService,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let state = match self.judge(&frame) {
            Ok(author) => {
                if let Some(author) = author {
                    frame.extensions_mut().insert(author);
                }
                let signs = self.options.signs.then(|| frame.peer().peers());
                State::Passed {
                    call: self.inner.call(frame),
                    signs,
                }
            }
            Err(why) => {
                crate::release(&mut self.inner);
                frame.withhold();
                // Whoever asks must learn why there is no answer. Nobody relays a request.
                let error = frame.is_request().then_some(why);
                State::Withheld { error }
            }
        };
        ResponseFuture { state }
    }
}

pin_project! {
    /// The response future of [`SignedService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        // The inner service is not called.
        Withheld {
            error: Option<NotProven>,
        },
        Passed {
            #[pin]
            call: F,
            // Whose codec signs the reply.
            signs: Option<Peers>,
        },
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Reply, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Withheld { error } => Poll::Ready(match error.take() {
                Some(error) => Err(error.into()),
                None => Ok(Reply::None),
            }),
            StateProj::Passed { call, signs } => {
                let reply = ready!(call.poll(cx)).map_err(Into::into)?;
                Poll::Ready(match (reply, signs) {
                    (Reply::Message(message), Some(peers)) => {
                        let sealed = peers.codec()?.seal(message);
                        Ok(Reply::Message(sealed.map_err(Error::unencodable)?))
                    }
                    (reply, _) => Ok(reply),
                })
            }
        }
    }
}

/// The error of a request that is withheld. It is no offence.
#[derive(Debug)]
struct NotProven(Finding);

impl fmt::Display for NotProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Finding::Unsigned => "this node takes signed messages only: sign it",
            Finding::NotAllowed => "this node takes no messages of this author",
            Finding::Stale(_) => {
                "the signature is too old, from the future, or was heard before: sign it anew, and \
                 check the clock"
            }
            Finding::Valid(_) | Finding::Invalid => "the signature does not hold",
        })
    }
}

impl StdError for NotProven {}
