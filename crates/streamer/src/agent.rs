//! The control socket to the node agent: JSON lines, bounded, one reader thread.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use api::streamer::{FromStreamer, MAX_LINE_BYTES, StreamerSettings, ToStreamer};

/// Why the agent's socket is unusable.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket broke.
    #[error("the agent's socket failed")]
    Io(#[from] io::Error),
    /// A line that is not of the contract: the agent and the streamer are of different versions.
    #[error("the agent sent a line that is not of the contract: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A line longer than [`MAX_LINE_BYTES`].
    #[error("the agent sent a line of more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The agent closed the socket.
    #[error("the agent closed the socket")]
    Closed,
}

/// The socket's reading side, before and after the settings.
#[derive(Debug)]
pub(crate) struct AgentReader {
    reader: BufReader<UnixStream>,
}

/// The socket's writing side.
#[derive(Debug)]
pub(crate) struct AgentWriter {
    stream: UnixStream,
}

pub(crate) fn open(stream: UnixStream) -> io::Result<(AgentReader, AgentWriter)> {
    let reader = BufReader::new(stream.try_clone()?);
    // The agent always reads; should it hang, the session goes on without its ears rather than with a frozen main loop.
    stream.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
    Ok((AgentReader { reader }, AgentWriter { stream }))
}

impl AgentReader {
    fn line(&mut self) -> Result<String, AgentError> {
        let mut line = String::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let length = self.reader.by_ref().take(limit).read_line(&mut line)?;
        match length {
            0 => Err(AgentError::Closed),
            _ if length > MAX_LINE_BYTES => Err(AgentError::TooLong),
            _ => Ok(line),
        }
    }

    pub(crate) fn settings(&mut self) -> Result<StreamerSettings, AgentError> {
        serde_json::from_str(&self.line()?).map_err(AgentError::Malformed)
    }

    /// Reads on a thread of its own until the socket ends; the last call of `on_line` gets the error.
    pub(crate) fn spawn(
        mut self,
        mut on_line: impl FnMut(Result<ToStreamer, AgentError>) + Send + 'static,
    ) -> io::Result<()> {
        thread::Builder::new().name("agent".into()).spawn(move || {
            loop {
                let line = self.line().and_then(|line| serde_json::from_str(&line).map_err(AgentError::Malformed));
                let last = matches!(line, Err(AgentError::Io(_) | AgentError::Closed | AgentError::TooLong));
                on_line(line);
                if last {
                    return;
                }
            }
        })?;
        Ok(())
    }
}

impl AgentWriter {
    pub(crate) fn send(&mut self, message: &FromStreamer) -> Result<(), AgentError> {
        let mut line = serde_json::to_vec(message).map_err(AgentError::Malformed)?;
        line.push(b'\n');
        self.stream.write_all(&line)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn lines_are_bounded_and_errors_do_not_end_the_reader() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (reader, _writer) = open(ours).unwrap();
        let (sender, lines) = mpsc::sync_channel(8);
        reader.spawn(move |line| sender.send(line).unwrap()).unwrap();
        theirs.write_all(b"{\"type\":\"dance\"}\n{\"type\":\"stop\",\"reason\":\"test\"}\n").unwrap();
        assert!(matches!(lines.recv().unwrap(), Err(AgentError::Malformed(_))));
        assert_eq!(lines.recv().unwrap().unwrap(), ToStreamer::Stop { reason: "test".into() });
        let long = vec![b'x'; MAX_LINE_BYTES + 2];
        theirs.write_all(&long).unwrap();
        assert!(matches!(lines.recv().unwrap(), Err(AgentError::TooLong)));
    }
}
