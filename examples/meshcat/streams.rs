//! The standard streams, which may be in non-blocking mode.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Delay if a stream is reported as ready but is not, which prevents a busy loop.
const STRANGE: Duration = Duration::from_millis(10);

/// The mode of a stream is shared with other processes. If one of them has made it non-blocking,
/// `WouldBlock` is not a failure: wait until the stream is ready.
pub(crate) struct Stream(File);

impl Stream {
    pub(crate) fn stdin() -> io::Result<Self> {
        Self::new(&io::stdin())
    }

    pub(crate) fn stdout() -> io::Result<Self> {
        Self::new(&io::stdout())
    }

    pub(crate) fn stderr() -> io::Result<Self> {
        Self::new(&io::stderr())
    }

    fn new(stream: &impl AsFd) -> io::Result<Self> {
        Ok(Self(stream.as_fd().try_clone_to_owned()?.into()))
    }

    /// Calls `attempt`, and repeats it whenever the stream becomes ready, until it succeeds or
    /// fails.
    fn when_ready<T>(
        &mut self,
        ready: PollFlags,
        mut attempt: impl FnMut(&mut File) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut waited = false;
        loop {
            match attempt(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return result,
            }
            if std::mem::replace(&mut waited, true) {
                std::thread::sleep(STRANGE);
            }
            match poll(&mut [PollFd::new(&self.0, ready)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.when_ready(PollFlags::IN, |file| file.read(bytes))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.when_ready(PollFlags::OUT, |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
