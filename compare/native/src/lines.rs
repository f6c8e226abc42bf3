//! A pipe of lines, like the stdin of a program that another program feeds.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::thread;

use tokio::net::unix::pipe::Receiver;

/// Bytes of a write of the other program, at least.
const WRITE: usize = 64 * 1024;

/// Returns a pipe into which a thread writes lines of `size` bytes until the pipe is dropped.
///
/// # Errors
///
/// Where the system has no pipe left.
pub fn pipe(size: usize) -> io::Result<Receiver> {
    let (reader, mut writer) = io::pipe()?;
    let mut line = vec![b'x'; size];
    line.push(b'\n');
    let lines = line.repeat(WRITE.div_ceil(line.len()));
    thread::spawn(move || while writer.write_all(&lines).is_ok() {});
    Receiver::from_owned_fd(OwnedFd::from(reader))
}
