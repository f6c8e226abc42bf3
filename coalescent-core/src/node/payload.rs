//! The payloads that can be broadcast many at a time.

use bytes::{Bytes, BytesMut};

/// A payload for [`broadcast_payloads`](crate::Peers::broadcast_payloads): read first, and kept
/// only if necessary.
///
/// Small payloads are copied into the buffer that is written, so a borrowed one is copied once, and
/// no reference count is touched. A payload that must be kept is moved if it is owned, shared if it
/// is a `&Bytes`, and copied if it is borrowed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// # let mesh = coalescent::App::new().start().await?;
/// let text = std::fs::read_to_string("Cargo.toml").unwrap_or_default();
/// let sent = mesh.broadcast_payloads(text.lines()).await?;
/// # assert_eq!(sent.queued, 0);
/// # Ok(())
/// # }
/// ```
pub trait Payload: AsRef<[u8]> {
    /// Converts the payload into bytes that can be kept.
    fn into_bytes(self) -> Bytes;
}

macro_rules! owned {
    ($($payload:ty),*) => {
        $(impl Payload for $payload {
            fn into_bytes(self) -> Bytes {
                self.into()
            }
        })*
    };
}

macro_rules! borrowed {
    ($($payload:ty),*) => {
        $(impl Payload for &$payload {
            fn into_bytes(self) -> Bytes {
                Bytes::copy_from_slice(self.as_ref())
            }
        })*
    };
}

owned!(Bytes, BytesMut, Vec<u8>, Box<[u8]>, String);
borrowed!([u8], str, &[u8], &str, Vec<u8>, String, Box<[u8]>, BytesMut);

impl Payload for &Bytes {
    fn into_bytes(self) -> Bytes {
        self.clone()
    }
}

impl<const N: usize> Payload for [u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> Payload for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_payloads_are_moved_and_borrowed_ones_copied() {
        fn kept<P: Payload>(payload: P) -> (bool, Bytes) {
            let at = payload.as_ref().as_ptr();
            let bytes = payload.into_bytes();
            (bytes.as_ptr() == at, bytes)
        }
        let bytes = Bytes::from(b"beep".to_vec());
        let shared = [
            kept(bytes.clone()),
            kept(&bytes),
            kept(b"beep".to_vec()),
            kept("beep".to_owned()),
            kept(BytesMut::from("beep")),
            kept(b"beep".to_vec().into_boxed_slice()),
        ];
        assert!(shared.iter().all(|(same, bytes)| *same && bytes == "beep"));
        let (list, text) = (b"beep".to_vec(), "beep".to_owned());
        let copied = [
            kept("beep"),
            kept(&list),
            kept(&text),
            kept(&list[..]),
            kept(b"beep"),
            kept(*b"beep"),
        ];
        assert!(copied.iter().all(|(same, bytes)| !same && bytes == "beep"));
    }
}
