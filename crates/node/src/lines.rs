//! What the agent and the programs that it starts write each other: JSON values, one a line, and their standard error.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use api::streamer::MAX_LINE_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::ChildStderr;
use tokio::sync::mpsc;

/// Most bytes of one program's log. Its lines are a few a session; more is a fault that repeats itself.
const MAX_LOG_BYTES: usize = 4 << 20;

/// Longest wait for a program to take a line. It reads at once; a longer wait means that it hangs.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a program's socket brought.
#[derive(Debug)]
pub(crate) enum Heard<T> {
    /// A message.
    Message(T),
    /// A line that is not of the contract.
    Garbage(String),
}

/// Writes a value as a line.
pub(crate) async fn write(writer: &mut OwnedWriteHalf, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&line)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Reads lines of bounded length until the socket ends.
pub(crate) async fn read<T: DeserializeOwned>(reader: OwnedReadHalf, sender: mpsc::Sender<Heard<T>>, program: String) {
    let mut reader = BufReader::new(reader);
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1;
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(length) if length > MAX_LINE_BYTES => {
                tracing::error!(program, "a program wrote a line that is too long");
                return;
            }
            Ok(_) => {}
        }
        let heard = match serde_json::from_slice(&line) {
            Ok(message) => Heard::Message(message),
            Err(error) => Heard::Garbage(error.to_string()),
        };
        if sender.send(heard).await.is_err() {
            return;
        }
    }
}

/// Copies a program's standard error into its log, up to a bound; what is more is read and dropped, so that the program
/// never waits for it.
pub(crate) async fn keep_log(mut stderr: ChildStderr, mut log: File) {
    let mut left = MAX_LOG_BYTES;
    let mut buffer = vec![0; 8192];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let kept = length.min(left);
        left -= kept;
        // Small writes to a local file: not worth a thread of their own. A full disk loses log lines, nothing else.
        if kept > 0 && log.write_all(&buffer[..kept]).is_err() {
            left = 0;
        }
    }
}
