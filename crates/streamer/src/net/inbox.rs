//! Bounded queues into the net thread, and the eventfd that wakes it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use media::{AudioPacket, EncodedUnit};
use rustix::event::{EventfdFlags, eventfd};
use transport::{BitrateLimits, Channel};

use super::OfferAnswer;

/// Frames that may wait: a thread that is this far behind sends only late ones.
const MAX_FRAMES: usize = 6;

/// Everything else that may wait: half a second of sound and a burst of messages.
const MAX_MESSAGES: usize = 256;

/// Bytes of messages that may wait: some clipboards and cursors of the largest size.
const MAX_BYTES: usize = 4 * wire::MAX_MESSAGE_BYTES;

/// The net thread does not keep up; what was given is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network's queue is full")]
pub struct Full;

/// Something for the net thread.
pub(super) enum Message {
    Offer { sdp: String, reply: Box<dyn FnOnce(OfferAnswer) + Send> },
    Video(EncodedUnit),
    Audio(AudioPacket),
    Data { channel: Channel, bytes: Vec<u8> },
    Limits(BitrateLimits),
    Disconnect,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Message::Offer { .. } => "Offer",
            Message::Video(_) => "Video",
            Message::Audio(_) => "Audio",
            Message::Data { .. } => "Data",
            Message::Limits(_) => "Limits",
            Message::Disconnect => "Disconnect",
        })
    }
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    frames: usize,
    bytes: usize,
    stopped: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    wake: OwnedFd,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Inbox> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Inbox { queue: Mutex::default(), wake })
    }

    /// Readable when something waits.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent between any two statements that could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, message: Message) -> Result<(), Full> {
        let mut queue = self.lock();
        let (frames, bytes) = cost(&message);
        let full = queue.frames + frames > MAX_FRAMES
            || queue.bytes + bytes > MAX_BYTES
            || queue.messages.len() >= MAX_MESSAGES;
        if full || queue.stopped {
            return Err(Full);
        }
        queue.frames += frames;
        queue.bytes += bytes;
        queue.messages.push_back(message);
        let first = queue.messages.len() == 1;
        drop(queue);
        if first {
            self.wake();
        }
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.wake();
    }

    fn wake(&self) {
        // Fails only when the counter is at its maximum: then the thread is awake already.
        if let Err(error) = rustix::io::write(&self.wake, &1u64.to_ne_bytes()) {
            tracing::trace!(%error, "the eventfd was not written");
        }
    }

    /// Takes all that waits into `messages`; true when the thread has to end.
    pub(super) fn take(&self, messages: &mut VecDeque<Message>) -> bool {
        let mut counter = [0u8; 8];
        // Fails when nothing was written since: nothing to reset then.
        if let Err(error) = rustix::io::read(&self.wake, &mut counter)
            && error != rustix::io::Errno::AGAIN
        {
            tracing::error!(%error, "the eventfd can not be read");
        }
        let mut queue = self.lock();
        messages.append(&mut queue.messages);
        queue.frames = 0;
        queue.bytes = 0;
        queue.stopped
    }
}

fn cost(message: &Message) -> (usize, usize) {
    match message {
        Message::Video(_) => (1, 0),
        Message::Data { bytes, .. } => (0, bytes.len()),
        Message::Offer { sdp, .. } => (0, sdp.len()),
        Message::Audio(_) | Message::Limits(_) | Message::Disconnect => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_wakes_once() {
        let inbox = Inbox::new().unwrap();
        let message = || Message::Data { channel: Channel::Motion, bytes: vec![0; 10] };
        let taken = (0..1000).filter(|_| inbox.push(message()).is_ok()).count();
        assert_eq!(taken, MAX_MESSAGES);
        let large = Message::Data { channel: Channel::Control, bytes: vec![0; MAX_BYTES + 1] };
        let mut messages = VecDeque::new();
        assert!(!inbox.take(&mut messages));
        assert_eq!(messages.len(), MAX_MESSAGES);
        assert_eq!(inbox.push(large), Err(Full));
        inbox.stop();
        assert_eq!(inbox.push(message()), Err(Full));
        assert!(inbox.take(&mut messages));
    }
}
