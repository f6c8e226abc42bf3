//! The wires that a load can speak.

use common::Failed;
use common::options::Options;
use tokio::net::TcpStream;

use crate::{socket, wire};

/// How the load's messages stand on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// As frames of coalescent.
    Native,
    /// As payloads alone.
    Raw,
}

impl Wire {
    /// Returns the wire that `--wire` names.
    pub(super) fn of(options: &Options) -> Result<Self, Failed> {
        match &*options.wire {
            "native" => Ok(Self::Native),
            "raw" => Ok(Self::Raw),
            other => Err(format!("no such wire: {other}").into()),
        }
    }

    /// Returns the bytes of a message with a payload of `size` bytes.
    pub(super) fn len(self, size: usize) -> usize {
        match self {
            Self::Native => wire::BROADCAST_PREFIX + size,
            Self::Raw => size,
        }
    }

    /// Connects to a hub of this wire.
    pub(super) async fn connect(self, addr: &str) -> Result<TcpStream, Failed> {
        let mut stream = socket::connect(addr).await?;
        if self == Self::Native {
            wire::hello(&mut stream).await?;
        }
        Ok(stream)
    }

    /// Returns `count` messages whose numbers are not set.
    pub(super) fn messages(self, count: usize, size: usize) -> Vec<u8> {
        let mut messages = Vec::new();
        let payload = vec![b'x'; size];
        for _ in 0..count {
            match self {
                Self::Native => wire::put(&mut messages, wire::BROADCAST, &[0; 8], &payload),
                Self::Raw => messages.extend_from_slice(&payload),
            }
        }
        messages
    }

    /// Sets the number of a message, so that it equals no other: its nonce, or on a wire without
    /// nonces the first eight bytes of its payload.
    pub(super) fn number(self, message: &mut [u8], number: u64) {
        let (at, bytes) = match self {
            Self::Native => (wire::FIXED, number.to_be_bytes()),
            Self::Raw => (0, hex(number as u32)),
        };
        if let Some(place) = message.get_mut(at..at + 8) {
            place.copy_from_slice(&bytes);
        }
    }
}

fn hex(number: u32) -> [u8; 8] {
    std::array::from_fn(|digit| {
        let digit = number >> (28 - 4 * digit) & 0xf;
        b"0123456789abcdef"[digit as usize]
    })
}
