//! A connection after its welcome: one task reads, one writes, and neither waits for whoever uses the messages.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error};

use crate::frame::{Frame, FrameError, Message, codec, decode, encode};
use crate::heard::{Heard, Lookout, listen};
use crate::mailbox::{Mailbox, Unsent};

/// How long one frame may take to be written. The largest one takes 13 s at 10 Mbit/s; a side that takes nothing for longer
/// hangs.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How long the last words may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Renewals that wait in one direction. There is one a minute at most.
const RENEWALS: usize = 1;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireEnd {
    /// The other side closed it.
    #[error("the other side closed the connection")]
    Closed,
    /// This side closed it, after all that waited was sent.
    #[error("the connection was closed")]
    Finished,
    /// Nothing was heard for so long.
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    /// It broke, or a frame was too long.
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    /// The other side sent something else than frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other side reads nothing.
    #[error("the other side reads nothing")]
    Stuck,
}

/// What the two directions of a connection differ in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest frame that is taken.
    pub(crate) incoming: usize,
    /// Longest frame that is sent.
    pub(crate) outgoing: usize,
    /// After how long a silence the connection is closed.
    pub(crate) silence: Duration,
    /// How often a beat is sent when there is nothing to say.
    pub(crate) beat: Duration,
}

/// A running connection.
#[derive(Debug)]
pub(crate) struct Wire<In> {
    /// What came.
    pub(crate) inbox: Arc<Mailbox<In>>,
    /// Requests for certificates, or certificates, that came.
    pub(crate) renewals_in: mpsc::Receiver<String>,
    /// The same, to be sent.
    pub(crate) renewals_out: mpsc::Sender<String>,
    /// When something came.
    pub(crate) heard: Heard,
    /// Its end.
    pub(crate) ending: Ending,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// The first reason for the end counts; the others follow from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    reason: Arc<OnceLock<WireEnd>>,
    token: CancellationToken,
}

impl Ending {
    fn end(&self, reason: WireEnd) {
        // A later reason is a consequence.
        let _first = self.reason.set(reason);
        self.token.cancel();
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> &WireEnd {
        self.token.cancelled().await;
        // A reason is there before the token is cancelled.
        self.reason.get().unwrap_or(&WireEnd::Finished)
    }
}

impl<In> Wire<In> {
    /// Ends the connection, if it has not ended, and waits until both tasks are gone.
    pub(crate) async fn finish(self) {
        self.ending.end(WireEnd::Finished);
        for task in [self.reader, self.writer] {
            if let Err(error) = task.await {
                error!(%error, "a task of the link ended badly");
            }
        }
    }
}

/// Starts the tasks. The writer sends what `outbox` has until that is closed and empty.
pub(crate) fn start<S, In, Out>(
    opened: Framed<S, LengthDelimitedCodec>,
    outbox: Arc<Mailbox<Out>>,
    limits: Limits,
) -> Wire<In>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
    In: Message,
    Out: Message,
{
    let parts = opened.into_parts();
    let (read, write) = tokio::io::split(parts.io);
    let (read, lookout, heard) = listen(read);
    // Frames that came right behind the welcome lie in the old buffer.
    let read = FramedRead::new(Cursor::new(parts.read_buf).chain(read), codec(limits.incoming));
    let write = FramedWrite::new(write, codec(limits.outgoing));

    let inbox = Arc::new(Mailbox::new());
    let (arrived, renewals_in) = mpsc::channel(RENEWALS);
    let (renewals_out, leaving) = mpsc::channel(RENEWALS);
    let ending = Ending::default();

    let reading = read_frames(read, Arc::clone(&inbox), arrived, lookout, limits.silence);
    let reader = {
        let (ending, inbox) = (ending.clone(), Arc::clone(&inbox));
        let task = async move {
            if let Some(reason) = ending.token.run_until_cancelled(reading).await {
                ending.end(reason);
            }
            inbox.close();
        };
        tokio::spawn(task.in_current_span())
    };
    let writer = {
        let (ending, writing) = (ending.clone(), write_frames(write, outbox, leaving, limits));
        let task = async move {
            if let Some(reason) = ending.token.run_until_cancelled(writing).await {
                ending.end(reason);
            }
        };
        tokio::spawn(task.in_current_span())
    };
    Wire { inbox, renewals_in, renewals_out, heard, ending, reader, writer }
}

async fn read_frames<R, In>(
    mut frames: FramedRead<R, LengthDelimitedCodec>,
    inbox: Arc<Mailbox<In>>,
    renewals: mpsc::Sender<String>,
    mut lookout: Lookout,
    silence: Duration,
) -> WireEnd
where
    R: AsyncRead + Unpin,
    In: Message,
{
    loop {
        let bytes = tokio::select! {
            // What is there is read before the time is looked at.
            biased;
            frame = frames.next() => match frame {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return WireEnd::Broken(error),
                None => return WireEnd::Closed,
            },
            silent = lookout.look() => if silent >= silence { return WireEnd::Silent(silent) } else { continue },
        };
        match decode(&bytes) {
            Ok(Frame::Beat {}) => {}
            Ok(Frame::Message(message)) => match inbox.push(message, bytes.len()) {
                Ok(()) => {}
                // Whoever waits for it asks again, or gives up in time.
                Err(Unsent::Full(_message)) => debug!("a message of the link was dropped: nobody reads"),
                Err(Unsent::Closed) => return WireEnd::Finished,
            },
            // A side that sends more than one at a time is answered once.
            Ok(Frame::Renewal { pem }) => {
                if renewals.try_send(pem).is_err() {
                    debug!("a renewal was dropped");
                }
            }
            Err(error) => return error.into(),
        }
    }
}

async fn write_frames<W, Out>(
    mut frames: FramedWrite<WriteHalf<W>, LengthDelimitedCodec>,
    outbox: Arc<Mailbox<Out>>,
    mut renewals: mpsc::Receiver<String>,
    limits: Limits,
) -> WireEnd
where
    W: AsyncWrite,
    Out: Message,
{
    loop {
        let frame = tokio::select! {
            biased;
            Some(pem) = renewals.recv() => Frame::Renewal { pem },
            message = outbox.receive() => match message {
                Some(message) => Frame::Message(message),
                None => return farewell(frames).await,
            },
            () = sleep(limits.beat) => Frame::Beat {},
        };
        let Some(bytes) = encode_within(&frame, limits.outgoing) else { continue };
        match timeout(WRITE_LIMIT, frames.send(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return WireEnd::Broken(error),
            Err(_elapsed) => return WireEnd::Stuck,
        }
    }
}

async fn farewell<W: AsyncWrite>(mut frames: FramedWrite<WriteHalf<W>, LengthDelimitedCodec>) -> WireEnd {
    // Each frame was flushed as it was sent.
    match timeout(FAREWELL_LIMIT, frames.get_mut().shutdown()).await {
        Ok(Ok(())) => WireEnd::Finished,
        Ok(Err(error)) => WireEnd::Broken(error),
        Err(_elapsed) => WireEnd::Stuck,
    }
}

/// A frame's bytes; `None` when it cannot be sent: to end the connection for it would bring it again and again.
fn encode_within<M: Message>(frame: &Frame<M>, limit: usize) -> Option<Bytes> {
    match encode(frame) {
        Ok(bytes) if bytes.len() <= limit => Some(bytes),
        Ok(bytes) => {
            error!(bytes = bytes.len(), limit, "a message is too long for the link and was dropped");
            None
        }
        Err(error) => {
            error!(%error, "a message cannot be written and was dropped");
            None
        }
    }
}
