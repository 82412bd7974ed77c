//! The agent's socket: JSON lines, bounded, read without waiting.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use api::streamer::MAX_LINE_BYTES;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::RecvFlags;

/// How long the agent may take to take a line. It always reads; when it hangs, nobody can be answered.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of one read.
const CHUNK: usize = 16 * 1024;

/// Why the agent's socket is unusable.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// The socket broke.
    #[error("the agent's socket failed")]
    Io(#[from] io::Error),
    /// A line that is not of the contract: the agent and the echo are of different versions.
    #[error("the agent sent a line that is not of the contract: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A line longer than [`MAX_LINE_BYTES`].
    #[error("the agent sent a line of more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The agent is gone.
    #[error("the agent closed the socket")]
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lines {
    socket: UnixStream,
    /// What came and was not read yet: at most a line, and a chunk.
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Lines> {
        // Fails on what is no socket.
        socket.set_write_timeout(Some(WRITE_LIMIT))?;
        Ok(Lines { socket, buffer: Vec::new() })
    }

    /// The next line, `None` when none is there.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, LinesError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(LinesError::Malformed);
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(LinesError::TooLong);
            }
            let mut chunk = [0; CHUNK];
            match rustix::net::recv(&self.socket, &mut chunk, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(LinesError::Closed),
                Ok((length, _)) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LinesError::Io(error.into())),
            }
        }
    }

    /// Waits for a line; `None` when the agent is gone.
    pub(crate) fn wait<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, LinesError> {
        loop {
            match self.read() {
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) => {}
                Err(LinesError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            }
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LinesError::Io(error.into())),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &impl serde::Serialize) -> Result<(), LinesError> {
        let mut line = serde_json::to_vec(message).map_err(LinesError::Malformed)?;
        line.push(b'\n');
        Ok(self.socket.write_all(&line)?)
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::echo::ToEcho;

    #[test]
    fn lines_are_read_as_they_come_and_bounded() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours).unwrap();
        assert!(matches!(lines.read::<ToEcho>(), Ok(None)));
        let line = b"{\"type\":\"offer\",\"request\":1,\"sdp\":\"v=0\"}\n";
        theirs.write_all(&line[..10]).unwrap();
        assert!(matches!(lines.read::<ToEcho>(), Ok(None)), "half a line");
        theirs.write_all(&[&line[10..], &line[..]].concat()).unwrap();
        for _ in 0..2 {
            assert!(matches!(lines.read::<ToEcho>(), Ok(Some(ToEcho::Offer { request: 1, .. }))));
        }
        theirs.write_all(b"{\"type\":\"dance\"}\n").unwrap();
        assert!(matches!(lines.read::<ToEcho>(), Err(LinesError::Malformed(_))));
        let writer = std::thread::Builder::new().spawn(move || {
            // The reader goes away before all of it is taken.
            drop(theirs.write_all(&vec![b'x'; MAX_LINE_BYTES * 2]));
        });
        let error = loop {
            match lines.read::<ToEcho>() {
                Ok(_) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LinesError::TooLong), "{error}");
        drop(lines);
        writer.unwrap().join().unwrap();
    }
}
