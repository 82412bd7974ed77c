//! The window manager's thread beside Xwayland.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use calloop::channel::SyncSender;
use media::Size;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use x11rb::connection::Connection;
use x11rb::rust_connection::{DefaultStream, RustConnection};

use super::wm::{Wm, WmError, WmEvent};

/// How long to wait for a full queue: it is full only while the compositor has hundreds of events to work off.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// What the compositor wants of it: the newest of each, so that nothing piles up.
#[derive(Debug, Default)]
struct Wanted {
    size: Option<Size>,
    focus: Option<u32>,
    clipboard: Option<String>,
    stop: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Manager {
    wanted: Arc<Mutex<Wanted>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// Manages the windows of the X server behind `stream`.
    pub(crate) fn start(stream: UnixStream, size: Size, events: SyncSender<WmEvent>) -> std::io::Result<Manager> {
        let wanted = Arc::<Mutex<Wanted>>::default();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (shared, woken) = (Arc::clone(&wanted), Arc::clone(&wake));
        let thread = std::thread::Builder::new().name("kite-xwm".to_owned()).spawn(move || {
            if let Err(error) = serve(stream, size, &events, &shared, &woken) {
                // The compositor is gone when nobody receives this.
                events.send(WmEvent::Lost { detail: error.to_string() }).ok();
            }
        })?;
        Ok(Manager { wanted, wake, thread: Some(thread) })
    }

    /// The screen has another size.
    pub(crate) fn resize(&self, size: Size) {
        self.want(|wanted| wanted.size = Some(size));
    }

    /// The player clicked on this window.
    pub(crate) fn focus(&self, window: u32) {
        self.want(|wanted| wanted.focus = Some(window));
    }

    /// X clients may paste this.
    pub(crate) fn set_clipboard(&self, text: String) {
        self.want(|wanted| wanted.clipboard = Some(text));
    }

    /// Ends the thread. The X server must be gone, or it may wait for it.
    pub(crate) fn stop(&mut self) {
        self.want(|wanted| wanted.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the window manager's thread panicked");
        }
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        // Full means that it has been woken 2^64 times and did not look yet.
        rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

fn serve(
    stream: UnixStream,
    size: Size,
    events: &SyncSender<WmEvent>,
    shared: &Mutex<Wanted>,
    woken: &OwnedFd,
) -> Result<(), WmError> {
    let poll_fd = stream.try_clone()?;
    let (stream, _) = DefaultStream::from_unix_stream(stream)?;
    let connection = RustConnection::connect_to_stream(stream, 0)?;
    let mut wm = Wm::new(connection, size, true)?;
    loop {
        while let Some(event) = wm.connection().poll_for_event()? {
            wm.handle(&event)?;
        }
        wm.connection().flush()?;
        for event in wm.take_events() {
            if !deliver(event, events, shared) {
                return Ok(());
            }
        }
        let mut watched = [PollFd::from_borrowed_fd(poll_fd.as_fd(), PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        // Empty when something else woke us.
        rustix::io::read(woken, &mut [0; 8]).ok();
        let wanted = std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
        if wanted.stop {
            return Ok(());
        }
        if let Some(size) = wanted.size {
            wm.resize(size)?;
        }
        if let Some(window) = wanted.focus {
            wm.focus(window)?;
        }
        if let Some(text) = wanted.clipboard {
            wm.set_clipboard(text)?;
        }
    }
}

/// False when nobody wants the event any more. A full queue holds back this thread and with it the X clients, but it must
/// not hold back the end.
fn deliver(mut event: WmEvent, events: &SyncSender<WmEvent>, shared: &Mutex<Wanted>) -> bool {
    loop {
        match events.try_send(event) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(returned)) => event = returned,
        }
        if shared.lock().unwrap_or_else(PoisonError::into_inner).stop {
            return false;
        }
        std::thread::sleep(FULL_PAUSE);
    }
}
