//! What many broadcasts at once may be made of.

use bytes::{Bytes, BytesMut};

/// A payload that is looked at first, and kept only where it has to be: what
/// [`broadcast_payloads`](crate::Peers::broadcast_payloads) takes many of.
///
/// Small payloads are copied into what is written, so one that is borrowed is copied once, and one
/// that counts its owners need not be counted for each. What is kept after all is taken over where
/// it is owned, shared where it is a `&Bytes`, and copied where it is borrowed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent_core::Error> {
/// # let mesh = coalescent_core::App::new().start().await?;
/// let text = std::fs::read_to_string("Cargo.toml").unwrap_or_default();
/// mesh.broadcast_payloads(text.lines()).await;
/// # Ok(())
/// # }
/// ```
pub trait Payload: AsRef<[u8]> {
    /// Makes bytes of it that can be kept.
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
    fn what_is_owned_is_taken_over_and_what_is_borrowed_is_copied() {
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
