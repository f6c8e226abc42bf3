//! Lines as they come on the stdin of a program that is fed by another one.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::thread;

use tokio::net::unix::pipe::Receiver;

/// How much the other program writes at once, at least.
const WRITE: usize = 64 * 1024;

/// A pipe into which a thread writes lines of `size` bytes each, until it is dropped.
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
