//! A connection that stands by, since its peer says that it is one who is connected.
//!
//! It answers PINGs, and sends the token that shows whether it is right; see
//! [`standing`](crate::node::standing). What else comes is left where it is, until there is a peer
//! that it comes from.

use std::future::poll_fn;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::node::{StandBy, Standing, as_token};
use crate::wire::{Block, Kind, WireCodec};

/// How many bytes are read at most of a connection that stands by, beyond what came with its
/// introduction.
const MAX_READ: usize = 4 * 1024;

/// The connection, and what has been read of it.
pub(super) struct Waiting<'a, IO> {
    pub(super) io: &'a mut IO,
    pub(super) codec: &'a mut WireCodec,
    pub(super) buf: &'a mut BytesMut,
    /// Frames that are left for the peer.
    pub(super) block: &'a mut Option<Block>,
}

/// What has become of it.
pub(super) enum Outcome {
    Decided(Standing),
    /// The other side has said that it leaves.
    Left,
}

/// How far what was read has been looked through.
enum Took {
    All,
    /// Up to a frame that is left for the peer.
    UpToFrame,
    Goodbye,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Waiting<'_, IO> {
    /// Stands by until it is decided what becomes of the connection, which has stood by since
    /// `since`.
    ///
    /// # Errors
    ///
    /// Where the connection breaks, or the peer breaks the rules of its wire.
    pub(super) async fn run(
        &mut self,
        standing: &StandBy,
        since: Instant,
    ) -> Result<Outcome, Error> {
        self.send(Kind::Ping, &standing.token()).await?;
        let mut reads = true;
        loop {
            if reads {
                reads = match self.take(standing).await? {
                    Took::All => self.buf.len() < MAX_READ,
                    Took::UpToFrame => false,
                    Took::Goodbye => return Ok(Outcome::Left),
                };
            }
            let decided = standing.look(since, Instant::now());
            // Before anything is said about the end of either connection.
            for token in standing.link().take_asks().1 {
                self.send(Kind::Ping, &token).await?;
            }
            let until = match decided {
                Standing::Wait(until) => until,
                decided => return Ok(Outcome::Decided(decided)),
            };
            tokio::select! {
                () = poll_fn(|cx| standing.poll_changed(cx)) => {}
                () = poll_fn(|cx| standing.link().poll_asked(cx)) => {}
                read = self.io.read_buf(self.buf), if reads => {
                    if read.map_err(Error::handshake)? == 0 {
                        let end = std::io::ErrorKind::UnexpectedEof;
                        return Err(Error::handshake(std::io::Error::from(end)));
                    }
                }
                () = sleep_until(until) => {}
            }
        }
    }

    /// Answers what was read, up to the first frame that is for the peer.
    async fn take(&mut self, standing: &StandBy) -> Result<Took, Error> {
        loop {
            let mut block = match self.block.take() {
                Some(block) => block,
                None => {
                    let mut block = Block::new();
                    let found = self.codec.next_block(self.buf, &mut block);
                    if !found.map_err(|error| Error::handshake(error.to_string()))? {
                        return Ok(Took::All);
                    }
                    block
                }
            };
            while let Some(&(offset, head)) = block.heads.first() {
                match head.kind {
                    Kind::Ping => {
                        let ping = block.payload(offset, &head);
                        self.send(Kind::Pong, &ping).await?;
                        if let Some(token) = as_token(&ping) {
                            standing.heard(token);
                        }
                    }
                    // Of what this node has asked, only the peer's answers count.
                    Kind::Pong | Kind::Cancel { .. } | Kind::Nothing => {}
                    Kind::Bye => return Ok(Took::Goodbye),
                    Kind::Hello => return Err(Error::handshake("a second HELLO")),
                    _ => {
                        *self.block = Some(block);
                        return Ok(Took::UpToFrame);
                    }
                }
                block.heads.remove(0);
            }
        }
    }

    async fn send(&mut self, kind: Kind, opaque: &[u8]) -> Result<(), Error> {
        let mut frame = BytesMut::new();
        self.codec
            .encode(kind, 0, opaque, &mut frame)
            .map_err(|error| Error::handshake(error.to_string()))?;
        self.io.write_all(&frame).await.map_err(Error::handshake)?;
        self.io.flush().await.map_err(Error::handshake)
    }
}
