//! Where messages are written before it is known how long they are.

use std::cell::Cell;

use bytes::Bytes;

use super::error::CodecError;

/// The longest message that is copied out of the buffer it was written to, in bytes; of a longer one, the
/// buffer itself is given away. What a thread keeps is at most twice as long.
const COPY_MAX: usize = 4096;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Returns what `write` wrote, and what it returned.
///
/// A short message takes one allocation, of just its length: `Bytes` of a vector with room to spare
/// would take one more.
pub(super) fn collect<T>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, CodecError>,
) -> Result<(Bytes, T), CodecError> {
    // Taken out, because a value of the application may write another message while it is serialized.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = write(&mut buffer);
    if buffer.len() > COPY_MAX {
        return result.map(|value| (Bytes::from(buffer), value));
    }
    let result = result.map(|value| (Bytes::copy_from_slice(&buffer), value));
    if buffer.capacity() <= 2 * COPY_MAX {
        // A thread that ends keeps nothing.
        let _ = BUFFER.try_with(|slot| slot.set(buffer));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_can_be_written_while_another_is() {
        let write = |text: &'static [u8]| {
            move |out: &mut Vec<u8>| {
                out.extend_from_slice(text);
                Ok(())
            }
        };
        let (outer, inner) = collect(|out| {
            write(b"out")(out)?;
            let (inner, ()) = collect(write(b"in"))?;
            write(b"er")(out)?;
            Ok(inner)
        })
        .unwrap();
        assert_eq!((&outer[..], &inner[..]), (&b"outer"[..], &b"in"[..]));
        assert_eq!(&collect(write(b"next")).unwrap().0[..], b"next");
    }

    #[test]
    fn a_thread_keeps_little() {
        for len in [COPY_MAX, COPY_MAX + 1, 1 << 20] {
            let (bytes, ()) = collect(|out| {
                out.resize(len, 1);
                Ok(())
            })
            .unwrap();
            assert_eq!(bytes.len(), len);
            let kept = BUFFER.take();
            assert!(kept.capacity() <= 2 * COPY_MAX);
            BUFFER.set(kept);
        }
    }
}
