//! A connection that stands by, since its peer claims to be one that is connected already.
//!
//! It answers PINGs, and sends the token that proves or refutes the claim; see
//! [`standing`](crate::node::standing). Other frames stay in the buffer until the connection has a
//! peer.

use std::future::poll_fn;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::clock;
use crate::error::Error;
use crate::node::{StandBy, Standing, as_token};
use crate::wire::{Block, Kind, WireCodec};

/// How many bytes are read at most while a connection stands by, in addition to those that came
/// with its introduction.
const MAX_READ: usize = 4 * 1024;

/// A connection that stands by, and what was read from it.
pub(super) struct Waiting<'a, IO> {
    pub(super) io: &'a mut IO,
    pub(super) codec: &'a mut WireCodec,
    pub(super) buf: &'a mut BytesMut,
    /// Decoded frames that are handled once the connection has a peer.
    pub(super) block: &'a mut Option<Block>,
}

/// How standing by ended.
pub(super) enum Outcome {
    Decided(Standing),
    /// The other side has said goodbye.
    Left,
}

/// How far the frames in the buffer were handled.
enum Took {
    All,
    /// Up to a frame that is handled once the connection has a peer.
    UpToFrame,
    Goodbye,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Waiting<'_, IO> {
    /// Waits until the node has decided about the connection, which stands by since `since`.
    ///
    /// # Errors
    ///
    /// If the connection breaks, or the peer breaks the rules of its wire.
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
            let decided = standing.look(since, clock::now());
            // Before either connection ends.
            for token in standing.link().take_asks().1 {
                self.send(Kind::Ping, &token).await?;
            }
            let until = match decided {
                Standing::Wait(until) => until,
                decided => {
                    standing.hand_over();
                    return Ok(Outcome::Decided(decided));
                }
            };
            tokio::select! {
                // The same order in each run of a simulation. What comes in cannot put off the
                // time, which is looked at in each round.
                biased;
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

    /// Answers the control frames in the buffer, up to the first other frame.
    async fn take(&mut self, standing: &StandBy) -> Result<Took, Error> {
        loop {
            let mut block = match self.block.take() {
                Some(block) => block,
                None => {
                    let mut block = Block::new();
                    let found = self.codec.next_block(self.buf, &mut block);
                    if !found.map_err(Error::handshake)? {
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
                    // Only a connected peer answers what this node has asked.
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
            .map_err(Error::handshake)?;
        self.io.write_all(&frame).await.map_err(Error::handshake)?;
        self.io.flush().await.map_err(Error::handshake)
    }
}
