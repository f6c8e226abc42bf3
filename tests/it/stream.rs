//! A file larger than any buffer goes through three processes, and the one in the middle keeps none
//! of it.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::Stdio;

use support::Cat;

const MIB: usize = 1024 * 1024;

/// How large the file is: what a node would keep of it stands out against [`GROWTH`].
const SIZE: usize = 128 * MIB;

/// How much a node in the middle may grow by, in bytes.
const GROWTH: u64 = 64 * MIB as u64;

/// The bytes of a seed: xorshift64*, so that nothing in them repeats.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let next = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
    }
}

#[test]
fn a_file_streams_raw_through_a_relay_that_keeps_none_of_it() {
    stream("raw");
}

#[test]
fn a_file_streams_in_native_frames_through_a_relay_that_keeps_none_of_it() {
    // Each of its lines, of 256 random bytes on average, is a frame.
    stream("native");
}

fn stream(wire: &str) {
    let name = format!("stream-{wire}-{}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut file = BufWriter::new(File::create(&path).expect("a file"));
    let mut noise = Noise(0x00c0_a1e5_ce47);
    let mut piece = vec![0; MIB];
    for _ in 0..SIZE / MIB {
        noise.fill(&mut piece);
        // As lines, the last of them ends too.
        piece[MIB - 1] = b'\n';
        file.write_all(&piece).expect("room on the disk");
    }
    file.into_inner().expect("room on the disk");

    let mut relay = Cat::listen(&format!("--wire {wire} --relay tattletale --quiet"));
    let to = format!(
        "--listen 127.0.0.1:0 --wire {wire} --relay none --seed {} --events",
        relay.addr()
    );
    let mut command = Cat::command(&to);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut receiver = Cat::listen_command(&mut command);
    receiver.connected();
    relay.connected();
    let before = relay.process().peak_memory();

    let from = format!(
        "--wire {wire} --relay none --once --seed {} --events",
        relay.addr()
    );
    let mut command = Cat::command(&from);
    command
        .stdin(File::open(&path).expect("a file"))
        .stdout(Stdio::null());
    let mut sender = Cat::start_command(&mut command);

    // The file and what arrives, side by side.
    let mut file = File::open(&path).expect("a file");
    let mut stdout = receiver.process().take_stdout();
    let (mut expected, mut received) = (vec![0; MIB], vec![0; MIB]);
    for at in 0..SIZE / MIB {
        file.read_exact(&mut expected).expect("it is long enough");
        stdout.read_exact(&mut received).expect("all of it arrives");
        assert!(expected == received, "MiB {at} has changed on the way");
    }
    let grown = relay.process().peak_memory() - before;
    assert!(grown < GROWTH, "the relay grew by {grown} bytes");

    let sent = sender.left();
    let relayed = relay.stop();
    let received = receiver.stop();
    assert_eq!((sent.dropped, relayed.dropped, received.dropped), (0, 0, 0));
    assert_eq!(relayed.received, relayed.relayed);
    if wire == "native" {
        assert_eq!(
            (sent.sent, received.received),
            (relayed.received, relayed.relayed)
        );
    }
    assert_eq!(
        stdout.read(&mut piece).expect("an end"),
        0,
        "more than was sent"
    );
    let _ = fs::remove_file(path);
}
