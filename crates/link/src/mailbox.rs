//! Messages between a connection and who uses it.
//!
//! Of the kind of which only the newest counts there is one place, which a newer message takes; the others wait in a
//! queue that is bounded in number and bytes. So the connection never has to wait for a slow user to be able to say that
//! it lives, and a user never waits for a connection that is slow to tell it what is newest.
//!
//! Order: the newest one goes first. A wish never comes after an offer that needs it; it may come before one that was
//! sent earlier, which then finds what it would have found a moment later.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::frame::Message;

/// Messages that wait beside the newest one. Fewer would lose answers in a burst; more only hide a side that hangs.
const QUEUE: usize = 256;

/// Bytes of them. One frame to a node of the largest size fits.
const QUEUE_BYTES: usize = crate::frame::TO_NODE_LIMIT;

#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    state: Mutex<State<M>>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug)]
struct State<M> {
    newest: Option<M>,
    queue: VecDeque<(M, usize)>,
    bytes: usize,
    closed: bool,
    memory: Memory<M>,
}

/// Whether the newest message is kept after it was taken, to be given again.
#[derive(Debug)]
enum Memory<M> {
    Off,
    On(Option<M>),
}

/// Why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsent<M> {
    /// The queue is full. The message comes back.
    Full(Box<M>),
    /// Nobody will read it.
    Closed,
}

impl<M: Message> Mailbox<M> {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::with(Memory::Off)
    }

    /// One that can [`Self::repeat`].
    pub(crate) fn remembering() -> Self {
        Self::with(Memory::On(None))
    }

    fn with(memory: Memory<M>) -> Self {
        let state = State { newest: None, queue: VecDeque::new(), bytes: 0, closed: false, memory };
        Self { state: Mutex::new(state), filled: Notify::new(), emptied: Notify::new() }
    }

    /// Puts a message in that came as so many bytes.
    pub(crate) fn push(&self, message: M, bytes: usize) -> Result<(), Unsent<M>> {
        let mut state = self.state();
        if state.closed {
            return Err(Unsent::Closed);
        }
        if message.replaces_older() {
            state.newest = Some(message);
        } else if state.queue.len() < QUEUE && state.bytes + bytes <= QUEUE_BYTES {
            state.queue.push_back((message, bytes));
            state.bytes += bytes;
        } else {
            return Err(Unsent::Full(Box::new(message)));
        }
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Puts a message in; waits while the queue is full. `false` when nobody will read it.
    pub(crate) async fn send(&self, mut message: M) -> bool {
        loop {
            let emptied = self.emptied.notified();
            match self.push(message, 0) {
                Ok(()) => return true,
                Err(Unsent::Closed) => return false,
                Err(Unsent::Full(back)) => message = *back,
            }
            emptied.await;
        }
    }

    /// Takes a message; `None` when it is closed and empty. Safe to cancel.
    pub(crate) async fn receive(&self) -> Option<M> {
        loop {
            // Made before the look, so that what comes in between is not missed.
            let filled = self.filled.notified();
            {
                let mut state = self.state();
                if let Some(message) = state.take() {
                    drop(state);
                    self.emptied.notify_one();
                    return Some(message);
                }
                if state.closed {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// Makes the newest message be read again, if nothing newer waits.
    pub(crate) fn repeat(&self) {
        let mut state = self.state();
        if let (None, Memory::On(Some(last))) = (&state.newest, &state.memory) {
            state.newest = Some(last.clone());
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Takes nothing more. What waits can still be read.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_waiters();
        self.filled.notify_one();
        self.emptied.notify_waiters();
        self.emptied.notify_one();
    }

    /// True when it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        // No panic happens while it is held; and if one did, each step leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Message> State<M> {
    fn take(&mut self) -> Option<M> {
        if let Some(newest) = self.newest.take() {
            if let Memory::On(last) = &mut self.memory {
                *last = Some(newest.clone());
            }
            return Some(newest);
        }
        let (message, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use api::node::{DesiredInstances, DesiredReplica, ToNode};
    use tokio::time::timeout;

    use super::*;

    fn level(count: usize) -> ToNode {
        let replica = DesiredReplica {
            content: "00".repeat(32).try_into().unwrap(),
            policy: api::content::ReplicaPolicy::Pinned,
        };
        ToNode::Desired(DesiredInstances { replicas: vec![replica; count], ..DesiredInstances::default() })
    }

    fn edge(request: u64) -> ToNode {
        ToNode::Probe { request, address: "127.0.0.1:1".parse().unwrap() }
    }

    #[tokio::test]
    async fn the_newest_goes_first_and_alone() {
        let mailbox = Mailbox::new();
        mailbox.push(edge(1), 1).unwrap();
        mailbox.push(level(1), 1).unwrap();
        mailbox.push(level(2), 1).unwrap();
        mailbox.push(edge(2), 1).unwrap();
        mailbox.close();
        assert_eq!(mailbox.push(edge(3), 1), Err(Unsent::Closed));
        for expected in [Some(level(2)), Some(edge(1)), Some(edge(2)), None] {
            assert_eq!(mailbox.receive().await, expected);
        }
    }

    #[tokio::test]
    async fn it_is_bounded_in_number_and_bytes() {
        let mailbox = Mailbox::new();
        for request in 0..QUEUE as u64 {
            mailbox.push(edge(request), 1).unwrap();
        }
        assert_eq!(mailbox.push(edge(0), 1), Err(Unsent::Full(Box::new(edge(0)))));
        mailbox.push(level(0), 1).unwrap();
        let mailbox = Mailbox::new();
        mailbox.push(edge(0), QUEUE_BYTES).unwrap();
        assert_eq!(mailbox.push(edge(1), 1), Err(Unsent::Full(Box::new(edge(1)))));
        mailbox.receive().await.unwrap();
        mailbox.push(edge(1), QUEUE_BYTES).unwrap();
    }

    #[tokio::test]
    async fn who_sends_waits_for_room_and_hears_of_the_end() {
        let mailbox = Arc::new(Mailbox::new());
        for request in 0..QUEUE as u64 {
            assert!(mailbox.send(edge(request)).await);
        }
        let sender = Arc::clone(&mailbox);
        let sent = tokio::spawn(async move { (sender.send(edge(1000)).await, sender.send(edge(1001)).await) });
        tokio::task::yield_now().await;
        assert_eq!(mailbox.receive().await, Some(edge(0)));
        tokio::task::yield_now().await;
        mailbox.close();
        assert_eq!(sent.await.unwrap(), (true, false));
    }

    #[tokio::test]
    async fn receiving_is_safe_to_cancel() {
        let mailbox = Arc::new(Mailbox::new());
        let pusher = Arc::clone(&mailbox);
        tokio::spawn(async move {
            for request in 0..100 {
                pusher.push(edge(request), 1).unwrap();
                tokio::time::sleep(Duration::from_micros(700)).await;
            }
            pusher.close();
        });
        let mut expected = 0;
        loop {
            match timeout(Duration::from_micros(300), mailbox.receive()).await {
                Ok(Some(message)) => {
                    assert_eq!(message, edge(expected));
                    expected += 1;
                }
                Ok(None) => break,
                Err(_cancelled) => {}
            }
        }
        assert_eq!(expected, 100);
    }

    #[tokio::test]
    async fn it_repeats_the_newest_unless_a_newer_one_waits() {
        let mailbox = Mailbox::remembering();
        mailbox.repeat();
        mailbox.push(level(1), 1).unwrap();
        mailbox.receive().await.unwrap();
        mailbox.repeat();
        assert_eq!(mailbox.receive().await, Some(level(1)));
        mailbox.push(level(2), 1).unwrap();
        mailbox.repeat();
        mailbox.close();
        assert_eq!(mailbox.receive().await, Some(level(2)));
        assert_eq!(mailbox.receive().await, None);
    }
}
