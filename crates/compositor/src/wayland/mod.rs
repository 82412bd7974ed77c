//! The compositor: one thread, one event loop, one display.
//!
//! Every turn of the loop has the same order, so that what is measured is true: first what the clients sent (their
//! commits cannot know of inputs that wait here), then the inputs, which leave at once, then the picture.

mod capture;
mod clipboard;
mod content;
pub(crate) mod cursor;
mod handlers;
mod input;
mod scene;
mod state;
mod xwayland;

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use calloop::channel::Event as ChannelEvent;
use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};
use smithay::reexports::wayland_server::backend::ClientId;
use smithay::reexports::wayland_server::{Display as WaylandDisplay, ListeningSocket};

use crate::{Answer, Command, Display, Signals, Sockets, SourceError, Start, StartError, sys};
use state::{ClientState, State};

/// Wayland clients of one game at most. A launcher, the game and its helpers need a handful; each costs a descriptor.
const CLIENT_LIMIT: usize = 64;

/// Bytes of events that wait for a client at most; one that lets more pile up is disconnected. A game that loads does
/// not read: at 1000 pointer events a second this is a minute of loading.
const CLIENT_BACKLOG_BYTES: usize = 4 * 1024 * 1024;

/// How often to try again to send to a client that does not read. Too rare delays a game after its loading, too often
/// costs while it loads.
const BACKLOG_RETRY: Duration = Duration::from_millis(10);

/// The thread's body.
pub(crate) fn run(start: Start, answer: &Answer) {
    let realtime = start.settings.realtime;
    let signals = Arc::clone(&start.signals);
    let mut server = match Server::new(start) {
        Ok((server, sockets)) => {
            if answer.send(Ok(sockets)).is_err() {
                return;
            }
            server
        }
        Err(error) => {
            // The caller waits for this answer; if it is gone, nobody is left to tell.
            answer.send(Err(error)).ok();
            return;
        }
    };
    if realtime && let Err(error) = sys::make_realtime() {
        tracing::info!(%error, "the display runs without real-time priority");
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.serve(&signals)));
    let error = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => SourceError::Display { detail: "a bug ended its thread, see the log".to_owned() },
    };
    tracing::error!(%error, "the display failed");
    server.state.emitter.failed(error);
}

struct Server {
    events: EventLoop<'static, State>,
    display: WaylandDisplay<State>,
    state: State,
    /// Kept for its memory.
    flushed: Vec<ClientId>,
    /// A client does not read what it is sent.
    backlog: bool,
}

impl Server {
    fn new(start: Start) -> Result<(Server, Sockets), StartError> {
        let system = |what| move |source: std::io::Error| StartError::System { what, source };
        let events: EventLoop<'static, State> =
            EventLoop::try_new().map_err(|error| system("make an event loop")(error.into()))?;
        let display = WaylandDisplay::<State>::new()
            .map_err(|error| system("make a Wayland display")(std::io::Error::other(error)))?;
        display.handle().set_default_max_buffer_size(CLIENT_BACKLOG_BYTES);
        let Start { settings, sink, receiver, signals: _ } = start;
        let (wayland_path, socket) = listen_wayland(&settings.runtime_dir)?;
        let mut state = State::new(&display.handle(), events.handle(), &settings, sink)?;
        let mut sockets = Sockets { wayland: Some(wayland_path), x11_dir: None };
        watch_clients(&events, &display, socket)?;
        events
            .handle()
            .insert_source(receiver, |event, (), state| match event {
                ChannelEvent::Msg(command) => state.commands.push(command),
                ChannelEvent::Closed => state.stopping = true,
            })
            .map_err(|error| system("watch the commands")(error.error.into()))?;
        if settings.display == Display::X11 {
            let (xwayland, x11_dir) = xwayland::start(&display.handle(), &events.handle(), &settings)?;
            state.xwayland = Some(xwayland);
            sockets.x11_dir = Some(x11_dir);
        }
        Ok((Server { events, display, state, flushed: Vec::new(), backlog: false }, sockets))
    }

    fn serve(&mut self, signals: &Signals) -> Result<(), SourceError> {
        let broken = |error: &dyn std::fmt::Display| SourceError::Display { detail: error.to_string() };
        while !self.state.stopping && !signals.stop.load(Ordering::Acquire) {
            let timeout = self.state.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let retry = self.backlog.then_some(BACKLOG_RETRY);
            let timeout = timeout.into_iter().chain(retry).min();
            self.events.dispatch(timeout, &mut self.state).map_err(|error| broken(&error))?;
            if std::mem::take(&mut self.state.clients_ready) {
                self.display.dispatch_clients(&mut self.state).map_err(|error| broken(&error))?;
            }
            if signals.overflow.swap(false, Ordering::AcqRel) {
                tracing::warn!("inputs were lost, because the display is behind: everything is released");
                self.state.release_all();
            }
            for command in std::mem::take(&mut self.state.commands) {
                self.state.command(command);
            }
            // What the player did leaves before the picture is made, which takes a millisecond.
            self.flush();
            self.state.settle();
            self.flush();
            if let Some(error) = self.state.failure() {
                return Err(error);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        let mut backend = self.display.handle().backend_handle();
        self.flushed.clear();
        backend.with_all_clients(|client| self.flushed.push(client));
        self.backlog = false;
        for client in self.flushed.drain(..) {
            // Any other error is of a client that is gone: the next dispatch finds it.
            let blocked = backend.flush(Some(client)).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            self.backlog |= blocked;
        }
    }
}

impl State {
    fn command(&mut self, command: Command) {
        match command {
            Command::Input(event, mark) => self.input(event, mark),
            Command::Resize(size) => self.resize(size),
            Command::Matrix(matrix) => self.set_matrix(matrix),
            Command::RequestFrame => self.refresh(),
            Command::Shift(microseconds) => self.pacer.shift_callbacks(microseconds),
            // X11 games draw by a beat of their own, and Xwayland's next commit comes when it likes: late, it would make the next queue.
            Command::LeaveOneOut if self.xwayland.is_some() => {}
            Command::LeaveOneOut => self.pacer.leave_one_out(Instant::now()),
            Command::Clipboard(text) => self.set_clipboard(text),
            Command::Stop => self.stopping = true,
        }
    }
}

fn listen_wayland(runtime_dir: &Path) -> Result<(PathBuf, ListeningSocket), StartError> {
    let path = runtime_dir.join("wayland-0");
    let failed = |source| StartError::Listen { path: path.clone(), source };
    let socket = ListeningSocket::bind_absolute(path.clone()).map_err(|error| failed(std::io::Error::other(error)))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).map_err(failed)?;
    Ok((path, socket))
}

fn watch_clients(
    events: &EventLoop<'static, State>,
    display: &WaylandDisplay<State>,
    socket: ListeningSocket,
) -> Result<(), StartError> {
    let failed = |error: calloop::Error| StartError::System { what: "watch the clients", source: error.into() };
    let watched: OwnedFd = display
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| StartError::System { what: "watch the clients", source })?;
    events
        .handle()
        .insert_source(Generic::new(watched, Interest::READ, Mode::Level), |_, _, state| {
            state.clients_ready = true;
            Ok(PostAction::Continue)
        })
        .map_err(|error| failed(error.error))?;
    let mut handle = display.handle();
    events
        .handle()
        .insert_source(Generic::new(socket, Interest::READ, Mode::Level), move |_, socket, state| {
            while let Some(stream) = socket.accept()? {
                if state.clients.load(Ordering::Relaxed) >= CLIENT_LIMIT {
                    tracing::warn!("a Wayland client was refused: there are {CLIENT_LIMIT} already");
                    continue;
                }
                let client = ClientState::native(Arc::clone(&state.clients));
                if let Err(error) = handle.insert_client(stream, Arc::new(client)) {
                    tracing::warn!(%error, "a Wayland client could not be accepted");
                }
            }
            Ok(PostAction::Continue)
        })
        .map_err(|error| failed(error.error))?;
    Ok(())
}
