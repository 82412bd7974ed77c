//! Xvfb as a source: pictures by XShm when XDamage says so, input by XTest, the pointer's look by XFixes.
//!
//! Xvfb takes its listening socket from us by socket activation, so that any number run at once without a file in
//! `/tmp`. The pointer counts as locked while the game hides it: X has no other sign.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::Ordering;
use std::time::Instant;

use calloop::channel::Event as ChannelEvent;
use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode, PostAction};
use media::{InputMark, PackedFormat, PackedImage, Size, convert_into};
use wire::PointerMode;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::Event;
use x11rb::protocol::damage::{self, ConnectionExt as _, ReportLevel};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{ConnectionExt as _, CursorNotifyMask};
use x11rb::protocol::xproto::{AutoRepeatMode, ChangeKeyboardControlAux, ConnectionExt as _, ImageFormat};
use x11rb::rust_connection::{DefaultStream, RustConnection};

use super::wm::{Wm, WmError, WmEvent};
use super::xinput::Hands;
use super::{Socket, listen, screen};
use crate::emitter::Emitter;
use crate::pacer::{Decision, Pacer};
use crate::sys::{self, SharedMemory};
use crate::wayland::cursor::{cursor_image, straight};
use crate::{Answer, Command, MAX_CURSOR_SIDE, Signals, Sockets, SourceError, Start, StartError};

/// What one turn of the loop finds.
#[derive(Debug, Default)]
struct Mailbox {
    commands: Vec<Command>,
    closed: bool,
}

/// The thread's body.
pub(crate) fn run(start: Start, answer: &Answer) {
    let Start { settings, sink, receiver, signals } = start;
    let mut emitter = Emitter::new(settings.size, settings.matrix, sink);
    let (mut server, dir) = match Server::new(&settings.runtime_dir, settings.size) {
        Ok(server) => {
            let dir = server.socket.dir.clone();
            (server, dir)
        }
        Err(error) => {
            // The caller waits for this answer; if it is gone, nobody is left to tell.
            answer.send(Err(error)).ok();
            return;
        }
    };
    let mut events = match server.event_loop(receiver) {
        Ok(events) => events,
        Err(source) => {
            answer.send(Err(StartError::System { what: "make an event loop", source })).ok();
            return;
        }
    };
    if answer.send(Ok(Sockets { wayland: None, x11_dir: Some(dir) })).is_err() {
        return;
    }
    if settings.realtime
        && let Err(error) = sys::make_realtime()
    {
        tracing::info!(%error, "the display runs without real-time priority");
    }
    let mut capture = Capture {
        pacer: Pacer::new(settings.frame_rate.interval(), Instant::now()),
        hands: Hands::default(),
        held: None,
        mark: None,
        repeat: false,
        populated: false,
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        capture.serve(&mut server, &mut events, &mut emitter, &signals)
    }));
    let error = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => SourceError::XServerExited { detail: format!("{error}; {}", server.status()) },
        Err(_) => SourceError::Display { detail: "a bug ended its thread, see the log".to_owned() },
    };
    tracing::error!(%error, "the display failed");
    emitter.failed(error);
}

/// Xvfb and our connection to it.
struct Server {
    process: Child,
    socket: Socket,
    watched: Option<UnixStream>,
    wm: Wm,
    damage: damage::Damage,
    segment: shm::Seg,
    memory: SharedMemory,
    side: u32,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that needs an orderly end.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Server {
    fn new(runtime_dir: &Path, size: Size) -> Result<Server, StartError> {
        let (socket, listener) = listen(runtime_dir)?;
        // The screen can be made smaller and larger up to this; its memory is taken at the start.
        let side = (size.width().max(size.height()) * 3 / 2).min(Size::MAX_SIDE);
        let mut process = spawn(runtime_dir, listener.into(), side)
            .map_err(|source| StartError::Spawn { program: "Xvfb", source })?;
        let connected = connect(&socket).and_then(|(connection, watched)| {
            let parts = prepare(connection, size, side)?;
            Ok((parts, watched))
        });
        match connected {
            Ok(((wm, damage, segment, memory), watched)) => {
                Ok(Server { process, socket, watched: Some(watched), wm, damage, segment, memory, side })
            }
            Err(error) => {
                process.kill().ok();
                let status = process.wait();
                if status.as_ref().is_ok_and(|status| status.code() == Some(127)) {
                    return Err(StartError::Spawn { program: "Xvfb", source: std::io::ErrorKind::NotFound.into() });
                }
                let hint =
                    "is it built with systemd's socket activation, RandR, DAMAGE, XFIXES, XTEST and MIT-SHM 1.2?";
                Err(StartError::XServer { detail: format!("Xvfb: {error}; {status:?}; {hint}") })
            }
        }
    }

    fn event_loop(
        &mut self,
        receiver: calloop::channel::Channel<Command>,
    ) -> std::io::Result<EventLoop<'static, Mailbox>> {
        let events: EventLoop<'static, Mailbox> = EventLoop::try_new()?;
        let handle = events.handle();
        handle
            .insert_source(receiver, |event, (), mailbox: &mut Mailbox| match event {
                ChannelEvent::Msg(command) => mailbox.commands.push(command),
                ChannelEvent::Closed => mailbox.closed = true,
            })
            .map_err(|error| std::io::Error::from(error.error))?;
        if let Some(watched) = self.watched.take() {
            // Only wakes the loop: the connection itself is read by x11rb.
            handle
                .insert_source(Generic::new(watched, Interest::READ, Mode::Level), |_, _, _| Ok(PostAction::Continue))
                .map_err(|error| std::io::Error::from(error.error))?;
        }
        Ok(events)
    }

    fn status(&mut self) -> String {
        match self.process.try_wait() {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it still runs".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn resize(&mut self, size: Size) -> Result<(), WmError> {
        screen::resize(self.wm.connection(), self.wm.root(), size)?;
        self.wm.resize(size)
    }

    /// Reads the screen into the shared memory. What is drawn from now on is damage again.
    fn grab(&self, size: Size) -> Result<(), WmError> {
        let connection = self.wm.connection();
        connection.damage_subtract(self.damage, x11rb::NONE, x11rb::NONE)?;
        let (width, height) = (size.width() as u16, size.height() as u16);
        let format = ImageFormat::Z_PIXMAP.into();
        connection.shm_get_image(self.wm.root(), 0, 0, width, height, !0, format, self.segment, 0)?.reply()?;
        Ok(())
    }
}

fn spawn(runtime_dir: &Path, listener: OwnedFd, side: u32) -> std::io::Result<Child> {
    let mut command = Process::new("/bin/sh");
    command
        // The activated process must find its own number in the environment. Only with a descriptor to tell its display
        // to does it keep no lock file in /tmp, which would make the display's number matter.
        .args(["-c", "LISTEN_PID=$$ exec Xvfb \"$@\" 9>/dev/null", "sh"])
        .args([&super::own_display(), "-displayfd", "9"])
        .args(["-screen", "0", &format!("{side}x{side}x24")])
        .args(["-nolisten", "tcp", "-nolisten", "unix", "-nolisten", "local", "-ac", "-noreset"])
        .args(["+extension", "GLX", "+extension", "RANDR", "-xkbdir", "/usr/share/X11/xkb"])
        .env("LISTEN_FDS", "1")
        .env("XDG_RUNTIME_DIR", runtime_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    sys::spawn(&mut command, vec![listener], true)
}

fn connect(socket: &Socket) -> Result<(RustConnection, UnixStream), WmError> {
    let stream = UnixStream::connect(socket.path())?;
    let watched = stream.try_clone()?;
    let (stream, _) = DefaultStream::from_unix_stream(stream)?;
    Ok((RustConnection::connect_to_stream(stream, 0)?, watched))
}

type Parts = (Wm, damage::Damage, shm::Seg, SharedMemory);

fn prepare(connection: RustConnection, size: Size, side: u32) -> Result<Parts, WmError> {
    for name in [damage::X11_EXTENSION_NAME, shm::X11_EXTENSION_NAME] {
        if connection.extension_information(name)?.is_none() {
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, name).into());
        }
    }
    let root = connection.setup().roots[0].root;
    screen::resize(&connection, root, size)?;
    let wm = Wm::new(connection, size, false)?;
    let connection = wm.connection();
    connection.damage_query_version(1, 1)?.reply()?;
    let damage = connection.generate_id()?;
    connection.damage_create(damage, root, ReportLevel::NON_EMPTY)?.check()?;
    connection.shm_query_version()?.reply()?;
    let memory = SharedMemory::new((side * side * 4) as usize)?;
    let segment = connection.generate_id()?;
    connection.shm_attach_fd(segment, memory.share()?, false)?.check()?;
    connection.xfixes_select_cursor_input(root, CursorNotifyMask::DISPLAY_CURSOR)?.check()?;
    let no_repeat = ChangeKeyboardControlAux::new().auto_repeat_mode(AutoRepeatMode::OFF);
    connection.change_keyboard_control(&no_repeat)?.check()?;
    Ok((wm, damage, segment, memory))
}

/// What is pending between turns.
struct Capture {
    pacer: Pacer,
    hands: Hands,
    /// When the damage that is to be shown was done, and what the game had been told before.
    held: Option<(Instant, Option<InputMark>)>,
    mark: Option<InputMark>,
    repeat: bool,
    /// A window has been seen: before that the empty screen is no picture of the game.
    populated: bool,
}

impl Capture {
    fn serve(
        &mut self,
        server: &mut Server,
        events: &mut EventLoop<'static, Mailbox>,
        emitter: &mut Emitter,
        signals: &Signals,
    ) -> Result<(), WmError> {
        let mut mailbox = Mailbox::default();
        while !mailbox.closed && !signals.stop.load(Ordering::Acquire) {
            self.events(server, emitter)?;
            let now = Instant::now();
            if self.pacer.poll(now) {
                self.show(server, emitter)?;
                // Replies may have been read together with events, which would not wake the loop.
                self.events(server, emitter)?;
            }
            server.wm.connection().flush()?;
            let timeout = self.pacer.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            events.dispatch(timeout, &mut mailbox).map_err(std::io::Error::from)?;
            if signals.overflow.swap(false, Ordering::AcqRel) {
                tracing::warn!("inputs were lost, because the display is behind: everything is released");
                self.hands.release_all(server.wm.connection(), server.wm.root())?;
            }
            for command in std::mem::take(&mut mailbox.commands) {
                mailbox.closed |= matches!(command, Command::Stop);
                self.command(command, server, emitter)?;
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Command, server: &mut Server, emitter: &mut Emitter) -> Result<(), WmError> {
        match command {
            Command::Input(event, mark) => {
                self.hands.input(server.wm.connection(), server.wm.root(), emitter.size, event)?;
                server.wm.connection().flush()?;
                self.mark = Some(mark);
                self.pacer.input();
            }
            Command::Resize(size) => {
                let (width, height) = (size.width().min(server.side), size.height().min(server.side));
                if let Ok(size) = Size::new(width, height)
                    && size != emitter.size
                {
                    server.resize(size)?;
                    if emitter.resize(size) {
                        self.refresh(server, emitter)?;
                    }
                }
            }
            Command::Matrix(matrix) => {
                if emitter.set_matrix(matrix) {
                    self.refresh(server, emitter)?;
                }
            }
            Command::RequestFrame => self.refresh(server, emitter)?,
            Command::Clipboard(text) => {
                emitter.remember_clipboard(&text);
                server.wm.set_clipboard(text)?;
            }
            // Nothing on Xvfb waits for the display. And a picture that is held here hides the damage of the next, which would come late and
            // make the next queue at the player's.
            Command::Shift(_) | Command::LeaveOneOut | Command::Stop => {}
        }
        Ok(())
    }

    fn refresh(&mut self, server: &Server, emitter: &mut Emitter) -> Result<(), WmError> {
        if self.held.is_none() && emitter.has_shown() {
            self.repeat = true;
        } else {
            self.held.get_or_insert((Instant::now(), self.mark));
        }
        if self.pacer.refresh(Instant::now()) == Decision::Emit {
            self.show(server, emitter)?;
        }
        Ok(())
    }

    fn events(&mut self, server: &mut Server, emitter: &mut Emitter) -> Result<(), WmError> {
        while let Some(event) = server.wm.connection().poll_for_event()? {
            match event {
                Event::DamageNotify(_) if !self.populated => {
                    server.wm.connection().damage_subtract(server.damage, x11rb::NONE, x11rb::NONE)?;
                }
                Event::DamageNotify(_) => {
                    let now = Instant::now();
                    self.held = Some((now, self.mark));
                    if self.pacer.commit(now) == Decision::Emit {
                        self.show(server, emitter)?;
                    }
                }
                Event::XfixesCursorNotify(_) => tell_cursor(server, emitter)?,
                other => {
                    server.wm.handle(&other)?;
                    self.windows(server, emitter);
                }
            }
        }
        Ok(())
    }

    /// At once after each event: the damage of a window's first picture may be the next one.
    fn windows(&mut self, server: &mut Server, emitter: &mut Emitter) {
        for event in server.wm.take_events() {
            match event {
                WmEvent::Copied { text } => {
                    emitter.clipboard(&text);
                }
                WmEvent::Mapped { .. } => self.populated = true,
                WmEvent::Surface { .. }
                | WmEvent::Moved { .. }
                | WmEvent::Raised { .. }
                | WmEvent::Unmapped { .. }
                | WmEvent::Lost { .. } => {}
            }
        }
    }

    fn show(&mut self, server: &Server, emitter: &mut Emitter) -> Result<(), WmError> {
        let repeat = std::mem::take(&mut self.repeat);
        let Some((committed, mark)) = self.held.take() else {
            if repeat {
                emitter.repeat(Instant::now());
            }
            return Ok(());
        };
        let size = emitter.size;
        server.grab(size)?;
        let stride = size.width() as usize * 4;
        let (width, height, format) = (size.width(), size.height(), PackedFormat::Bgrx);
        let image = PackedImage { bytes: server.memory.bytes(), width, height, stride, format };
        if let Err(error) = emitter.emit(committed, mark, |picture| convert_into(image, picture)) {
            tracing::error!(%error, "a frame was dropped");
        }
        Ok(())
    }
}

fn tell_cursor(server: &Server, emitter: &mut Emitter) -> Result<(), WmError> {
    let image = server.wm.connection().xfixes_get_cursor_image()?.reply()?;
    let (width, height) = (u32::from(image.width).min(MAX_CURSOR_SIDE), u32::from(image.height).min(MAX_CURSOR_SIDE));
    let mut rgba = Vec::with_capacity((width * height * 4) as usize);
    for row in image.cursor_image.chunks(usize::from(image.width).max(1)).take(height as usize) {
        for pixel in row.iter().take(width as usize) {
            let [blue, green, red, alpha] = pixel.to_le_bytes();
            rgba.extend_from_slice(&straight(red, green, blue, alpha));
        }
    }
    let cursor = cursor_image(width, height, (i32::from(image.xhot), i32::from(image.yhot)), rgba);
    let hidden = cursor == wire::Cursor::Hidden;
    emitter.pointer_mode(if hidden { PointerMode::Locked } else { PointerMode::Absolute });
    emitter.cursor(cursor);
    Ok(())
}
