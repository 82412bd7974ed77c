//! When something was last heard of the other side.
//!
//! Bytes count, not frames: a large frame on a slow way is a sign of life for as long as it comes. And silence counts only
//! as far as somebody listened: from the last byte to the last look that found nothing. A process that stood still has not
//! heard its nodes either, and must not take them all for dead when it goes on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use api::node::LinkClosed;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How often a node sends a beat when it has nothing to say. Shorter only costs packets: 10 a second are 1 kB/s a node.
pub const BEAT: Duration = Duration::from_millis(100);

/// How often the control plane does. A node looks for another one after seconds, and a control plane has thousands of nodes.
pub const CONTROL_BEAT: Duration = Duration::from_millis(500);

/// After how long without a beat a side is to be suspected: two beats may be late or lost, three are not by chance.
/// Shorter takes a retransmission for death.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(300);

/// When looks begin: a beat that is later than this is late.
const QUIET: Duration = Duration::from_millis(150);

/// Time between looks. Silence is told this much too late at most; shorter only costs wake-ups.
const LOOK: Duration = Duration::from_millis(25);

/// A look that is as late as this was kept from being made, and so was whoever reads the sockets.
const LATE: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, Debug)]
struct Moments {
    /// When the last byte came.
    last: Instant,
    /// Up to when it is sure that no other one came.
    sure: Instant,
}

/// Tells when something was last heard. It can be kept, cloned and asked beside the link that it belongs to, and goes on
/// counting when that has ended.
#[derive(Clone, Debug)]
pub struct Heard {
    moments: watch::Receiver<Moments>,
}

impl Heard {
    /// How long nothing was heard. Below 150 ms it says zero.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        let Moments { last, sure } = *self.moments.borrow();
        // Nobody looks any more when the link has ended.
        if self.moments.has_changed().is_err() { last.elapsed() } else { sure.saturating_duration_since(last) }
    }

    /// Returns when nothing was heard for `limit`, which is 150 ms at least. Safe to cancel.
    pub async fn silence(&self, limit: Duration) {
        let mut moments = self.moments.clone();
        let silent = |moments: &Moments| moments.sure.saturating_duration_since(moments.last) >= limit;
        if moments.wait_for(silent).await.is_err() {
            let due = self.moments.borrow().last + limit;
            sleep_until(due).await;
        }
    }

    /// Returns when something is heard after this call. Safe to cancel.
    ///
    /// # Errors
    /// The link has ended: nothing more will be heard on it.
    pub async fn sound(&self) -> Result<(), LinkClosed> {
        let before = self.moments.borrow().last;
        let mut moments = self.moments.clone();
        let heard = moments.wait_for(|moments| moments.last > before).await;
        heard.map(drop).map_err(|_ended| LinkClosed)
    }
}

/// Reads, and notes when something came.
#[derive(Debug)]
pub(crate) struct Listening<R> {
    inner: R,
    moments: watch::Sender<Moments>,
}

/// Looks, and notes when nothing came.
#[derive(Debug)]
pub(crate) struct Lookout {
    moments: watch::Sender<Moments>,
    looked: Instant,
}

/// Notes from now on what is read.
pub(crate) fn listen<R>(inner: R) -> (Listening<R>, Lookout, Heard) {
    let now = Instant::now();
    let (sender, moments) = watch::channel(Moments { last: now, sure: now });
    (Listening { inner, moments: sender.clone() }, Lookout { moments: sender, looked: now }, Heard { moments })
}

impl Lookout {
    /// Waits until it is time for a look, and makes it; says how long nothing was heard. Call it when reading finds
    /// nothing. Safe to cancel.
    pub(crate) async fn look(&mut self) -> Duration {
        let due = (self.moments.borrow().last + QUIET).max(self.looked + LOOK);
        sleep_until(due).await;
        self.looked = Instant::now();
        let late = self.looked.saturating_duration_since(due) > LATE;
        let mut silent = Duration::ZERO;
        self.moments.send_if_modified(|moments| {
            if !late {
                moments.sure = moments.sure.max(self.looked);
            }
            silent = moments.sure.saturating_duration_since(moments.last);
            !late
        });
        silent
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Listening<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let now = Instant::now();
            self.moments.send_replace(Moments { last: now, sure: now });
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{sleep, timeout};

    use super::*;

    /// A reader as the link's: it reads, and looks when nothing comes.
    async fn read(mut near: Listening<impl AsyncRead + Unpin>, mut lookout: Lookout) {
        loop {
            tokio::select! {
                biased;
                byte = near.read_u8() => if byte.is_err() { return },
                _ = lookout.look() => {}
            }
        }
    }

    #[tokio::test]
    async fn silence_begins_anew_with_each_byte() {
        let (mut far, near) = tokio::io::duplex(64);
        let (near, lookout, heard) = listen(near);
        let start = Instant::now();
        let reader = tokio::spawn(read(near, lookout));
        let speaker = tokio::spawn(async move {
            for _ in 0..2 {
                sleep(Duration::from_millis(200)).await;
                far.write_u8(1).await.unwrap();
            }
            far
        });
        heard.silence(Duration::from_millis(300)).await;
        let took = start.elapsed();
        assert!((690..2000).contains(&took.as_millis()), "{took:?}");
        assert!(heard.silent_for() >= Duration::from_millis(300));
        drop(speaker.await.unwrap());
        reader.await.unwrap();
        assert_eq!(heard.sound().await, Err(LinkClosed));
        // It goes on counting after the end.
        heard.silence(Duration::from_secs(1)).await;
        assert!(heard.silent_for() >= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn sound_waits_for_the_next_byte() {
        let (mut far, near) = tokio::io::duplex(64);
        let (near, lookout, heard) = listen(near);
        tokio::spawn(read(near, lookout));
        assert!(timeout(Duration::from_millis(400), heard.sound()).await.is_err());
        let waiting = tokio::spawn(async move { heard.sound().await });
        tokio::task::yield_now().await;
        far.write_u8(1).await.unwrap();
        assert_eq!(timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_process_that_stood_still_suspects_nobody() {
        let (mut far, near) = tokio::io::duplex(64);
        let (near, lookout, heard) = listen(near);
        tokio::spawn(read(near, lookout));
        sleep(Duration::from_millis(50)).await;
        // The one thread of this runtime stands still; the other side's beat lies there when it goes on.
        std::thread::sleep(Duration::from_secs(1));
        assert!(heard.silent_for() < SUSPECT_AFTER);
        far.write_u8(1).await.unwrap();
        assert!(timeout(Duration::from_millis(200), heard.silence(SUSPECT_AFTER)).await.is_err());
        // A silence that is real is noticed all the same.
        timeout(Duration::from_secs(5), heard.silence(SUSPECT_AFTER)).await.unwrap();
    }
}
