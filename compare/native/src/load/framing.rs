//! The wires that a load can speak.

use tokio::net::TcpStream;

use crate::options::Options;
use crate::report::Failed;
use crate::{socket, wire};

/// How the load's frames stand on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Native,
    Lines,
    Raw,
}

impl Wire {
    /// The wire that was asked for.
    pub(super) fn of(options: &Options) -> Result<Self, Failed> {
        match &*options.wire {
            "native" => Ok(Self::Native),
            "lines" => Ok(Self::Lines),
            "raw" => Ok(Self::Raw),
            other => Err(format!("no such wire: {other}").into()),
        }
    }

    /// The bytes of a frame with a payload of `size` bytes.
    pub(super) fn len(self, size: usize) -> usize {
        match self {
            Self::Native => wire::BROADCAST_PREFIX + size,
            Self::Lines => size + 1,
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

    /// A frame, made another by its nonce, or, where there is none, by its first eight bytes.
    pub(super) fn frame(self, nonce: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        match self {
            Self::Native => wire::put(&mut frame, wire::BROADCAST, &nonce.to_be_bytes(), payload),
            Self::Lines | Self::Raw => {
                frame.extend_from_slice(format!("{:08x}", nonce as u32).as_bytes());
                frame.extend_from_slice(payload.get(8..).unwrap_or_default());
                if self == Self::Lines {
                    frame.push(b'\n');
                }
            }
        }
        frame
    }
}
