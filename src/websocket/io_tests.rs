use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_oneof};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

/// The largest message in these tests, in bytes.
const MAX: usize = 50;

/// A frame as a client sends it, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Gives the bytes to a WebSocket, and reads until it ends. Returns what was read, and what it
/// wrote.
async fn read_all(form: Form, bytes: &[u8], buffer: usize) -> (Vec<u8>, Vec<u8>) {
    let (near, mut far) = duplex(64 * 1024);
    let socket = WebSocketStream::from_raw_socket(near, Role::Server, Some(config(MAX))).await;
    let mut io = WebSocketIo::new(socket, form, MAX, None);
    far.write_all(bytes).await.unwrap();
    // It hears the end, and can still answer.
    far.shutdown().await.unwrap();
    let mut read = Vec::new();
    let mut piece = vec![0; buffer];
    while let Ok(length @ 1..) = io.read(&mut piece).await {
        read.extend_from_slice(&piece[..length]);
    }
    let _ = io.shutdown().await;
    drop(io);
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    (read, answer)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #[test]
    fn no_frames_of_a_client_do_harm(
        frames in vec(
            (
                prop_oneof![any::<u8>(), proptest::sample::select(vec![0x81, 0x82, 0x01, 0x80, 0x89])],
                vec(any::<u8>(), 0..60),
            ),
            0..12,
        ),
        rest in vec(any::<u8>(), 0..20),
        is_text in any::<bool>(),
        buffer in 1..100_usize,
    ) {
        let mut bytes = Vec::new();
        for (first, payload) in &frames {
            bytes.extend(frame(*first, payload));
        }
        bytes.extend(rest);
        let form = if is_text { Form::Text } else { Form::Binary };
        let (read, answer) = run(read_all(form, &bytes, buffer));
        prop_assert!(read.len() <= bytes.len());
        // A close frame ends whatever was answered, unless the end was heard first.
        prop_assert!(answer.len() <= bytes.len() + 64);
        if is_text {
            prop_assert!(read.is_empty() || read.ends_with(b"\n"));
            prop_assert!(std::str::from_utf8(&read).is_ok());
            prop_assert!(read.split(|byte| *byte == b'\n').all(|line| line.len() <= MAX));
        }
    }

    #[test]
    fn pieces_of_any_size_are_the_same_stream(
        pieces in vec(vec(any::<u8>(), 0..MAX), 0..20),
        buffer in 1..100_usize,
    ) {
        let frames: Vec<u8> = pieces.iter().flat_map(|piece| frame(0x82, piece)).collect();
        let (read, _) = run(read_all(Form::Binary, &frames, buffer));
        prop_assert!(read == pieces.concat());
    }
}
