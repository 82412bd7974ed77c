//! Pads as files of a FUSE file system on the game's `/dev/input`.
//!
//! A slot is *wanted* (what the player did) and *visible* (what the directory shows). When the sandbox's plug process is
//! there, becoming visible takes a detour: a file that a server adds by itself is announced to nobody, so the plug is told
//! `+event0`, creates the file from inside, and whoever watches the directory hears of it. The same for removal.
//!
//! ```text
//!            connect                 plug creates
//!   absent ───────────> being added ───────────────> visible ──> being removed ──> absent
//!      └───────── without a plug, at once ───────────────┘ disconnect     plug unlinks
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use wire::PadState;

use crate::pad::Position;
use crate::protocol::{self, Attributes, BUFFER_BYTES, Header, Operation, ROOT};
use crate::reader::{Outcome, Reader};
use crate::{OnRumble, PadError, Rumble, SLOTS};

/// The file of the sandbox's plug process. The game cannot open it: the plug has it open before the game can look.
const PLUG_NAME: &str = ".plug";
const PLUG_NODE: u64 = 2;
/// Nodes of pads count up from here, so that a pad that comes back is another file.
const FIRST_PAD_NODE: u64 = 16;

/// How often an unmounted device is looked at: there is nothing to wait for. Longer delays the game's start, which waits
/// for the first answer; shorter wakes an idle streamer for nothing.
const MOUNT_PERIOD: Duration = Duration::from_millis(5);

/// Most open files. A game that opens more is broken or hostile.
const MAX_HANDLES: usize = 256;

/// The pads of one game.
pub(crate) struct FusePads {
    shared: Arc<Shared>,
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    device: OwnedFd,
    state: Mutex<State>,
}

/// Everything that the file system shows.
struct State {
    slots: [Slot; SLOTS],
    handles: BTreeMap<u64, Reader>,
    plug: Option<Plug>,
    next_handle: u64,
    next_node: u64,
    /// The directory's time, in seconds. Never 0, and never the same after a change: SDL looks again only then.
    modified: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    wanted: bool,
    /// Node of the visible file.
    visible: Option<u64>,
    /// The plug was told and has not done it yet.
    asked: bool,
    position: Position,
}

/// The plug process's open file.
#[derive(Debug, Default)]
struct Plug {
    handle: u64,
    lines: VecDeque<String>,
    polled: Option<u64>,
}

/// Messages for the kernel, written after the state is consistent.
type Messages = Vec<Vec<u8>>;

impl FusePads {
    pub(crate) fn start(device: OwnedFd, on_rumble: OnRumble) -> io::Result<Self> {
        let shared = Arc::new(Shared { device, state: Mutex::new(State::new()) });
        let (stop, stopped) = UnixStream::pair()?;
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pads".to_owned()).spawn(move || {
            if let Err(error) = serve(&served, &stopped, on_rumble) {
                tracing::warn!(%error, "the gamepads are gone");
            }
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn connect(&self, slot: u8) -> Result<(), PadError> {
        self.change(slot, |slot| slot.wanted = true)
    }

    pub(crate) fn disconnect(&self, slot: u8) -> Result<(), PadError> {
        self.change(slot, |slot| {
            slot.wanted = false;
            slot.position = Position::default();
        })
    }

    pub(crate) fn update(&self, slot: u8, pad: &PadState) -> Result<(), PadError> {
        let index = index(slot)?;
        let mut state = self.shared.lock();
        let mut messages = Messages::new();
        state.slots[index].wanted = true;
        state.settle(index, &mut messages);
        state.set_position(index, Position::of(pad), &mut messages);
        self.shared.send(messages);
        Ok(())
    }

    fn change(&self, slot: u8, change: impl FnOnce(&mut Slot)) -> Result<(), PadError> {
        let index = index(slot)?;
        let mut state = self.shared.lock();
        let mut messages = Messages::new();
        change(&mut state.slots[index]);
        state.settle(index, &mut messages);
        self.shared.send(messages);
        Ok(())
    }
}

impl Drop for FusePads {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the gamepads' thread panicked");
        }
    }
}

fn index(slot: u8) -> Result<usize, PadError> {
    Some(usize::from(slot)).filter(|index| *index < SLOTS).ok_or(PadError::Slot(slot))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the kernel. Called with the state locked, so that messages leave in the order of the changes.
    fn send(&self, messages: Messages) {
        for message in messages {
            match rustix::io::write(&self.device, &message) {
                // NOENT: the request was aborted, or nobody polls any more. NODEV, PERM: not mounted (any more).
                Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::PERM) => {}
                Err(error) => tracing::warn!(%error, "cannot answer the kernel"),
            }
        }
    }
}

/// Answers the kernel until the file system is unmounted or `stopped` closes.
fn serve(shared: &Shared, stopped: &UnixStream, mut on_rumble: OnRumble) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut sources =
            [PollFd::new(stopped, PollFlags::IN), PollFd::from_borrowed_fd(shared.device.as_fd(), PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
        if !sources[0].revents().is_empty() {
            return Ok(());
        }
        if !sources[1].revents().contains(PollFlags::IN) {
            // Not mounted yet, or not any more: a read tells which.
            match rustix::io::read(&shared.device, &mut buffer) {
                Err(Errno::PERM) => {
                    let mut wait = [PollFd::new(stopped, PollFlags::IN)];
                    let period = Timespec::try_from(MOUNT_PERIOD).unwrap_or_default();
                    poll(&mut wait, Some(&period))?;
                    continue;
                }
                Err(Errno::NODEV) => return Ok(()),
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
                Ok(count) => handle(shared, &buffer[..count], &mut on_rumble),
            }
            continue;
        }
        match rustix::io::read(&shared.device, &mut buffer) {
            Ok(count) => handle(shared, &buffer[..count], &mut on_rumble),
            Err(Errno::NODEV) => return Ok(()),
            // NOENT: the request was taken back.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn handle(shared: &Shared, request: &[u8], on_rumble: &mut OnRumble) {
    let Some((header, operation)) = protocol::parse(request) else {
        tracing::warn!("the kernel sent a request that is too short");
        return;
    };
    let mut messages = Messages::new();
    let mut rumbles = Vec::new();
    let mut state = shared.lock();
    state.answer(header, operation, &mut messages, &mut rumbles);
    shared.send(messages);
    drop(state);
    rumbles.into_iter().for_each(on_rumble);
}

impl State {
    fn new() -> Self {
        Self {
            slots: [Slot::default(); SLOTS],
            handles: BTreeMap::new(),
            plug: None,
            next_handle: 1,
            next_node: FIRST_PAD_NODE,
            modified: now_seconds(),
        }
    }

    /// Moves a slot towards what is wanted.
    fn settle(&mut self, index: usize, messages: &mut Messages) {
        let slot = self.slots[index];
        if slot.wanted == slot.visible.is_some() {
            return;
        }
        if !slot.wanted {
            self.silence(index, messages);
        }
        if slot.asked {
            return;
        }
        if let Some(plug) = &mut self.plug {
            plug.tell(if slot.wanted { '+' } else { '-' }, index, messages);
            self.slots[index].asked = true;
        } else if slot.wanted {
            self.show(index);
        } else {
            self.hide(index);
        }
    }

    fn show(&mut self, index: usize) {
        self.slots[index].visible = Some(self.next_node);
        self.next_node += 1;
        self.touch();
    }

    fn hide(&mut self, index: usize) {
        self.slots[index].visible = None;
        self.touch();
    }

    fn touch(&mut self) {
        self.modified = now_seconds().max(self.modified + 1);
    }

    /// Tells whoever has the slot's file open that the device is gone.
    fn silence(&mut self, index: usize, messages: &mut Messages) {
        let node = self.slots[index].visible;
        for reader in self.handles.values_mut().filter(|reader| Some(reader.node) == node) {
            reader.unplug(messages);
        }
    }

    fn set_position(&mut self, index: usize, position: Position, messages: &mut Messages) {
        let slot = &mut self.slots[index];
        let events = slot.position.events_to(&position);
        slot.position = position;
        let Some(node) = slot.visible.filter(|_| !events.is_empty()) else { return };
        for reader in self.handles.values_mut().filter(|reader| reader.node == node) {
            reader.push(&events, messages);
        }
    }

    fn named(&self, name: &std::ffi::OsStr) -> Option<usize> {
        (0..SLOTS).find(|index| name == file_name(*index).as_str())
    }

    fn slot_of(&self, node: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.visible == Some(node))
    }

    fn attributes(&self, header: &Header, node: u64) -> Option<Attributes> {
        let known = node == ROOT || node == PLUG_NODE || self.slot_of(node).is_some();
        let Header { uid, gid, .. } = *header;
        known.then_some(Attributes { node, directory: node == ROOT, modified: self.modified, uid, gid })
    }

    fn answer(&mut self, header: Header, operation: Operation<'_>, messages: &mut Messages, rumbles: &mut Vec<Rumble>) {
        let body = match operation {
            Operation::Init { minor } => Ok(protocol::init_body(minor)),
            Operation::Lookup { name } => self.lookup(&header, name),
            Operation::GetAttributes | Operation::SetAttributes => self
                .attributes(&header, header.node)
                .map(|attributes| protocol::attributes_body(&attributes))
                .ok_or(libc::ENOENT),
            Operation::MakeNode { name } => self.make_node(&header, name, messages),
            Operation::Unlink { name } => self.unlink(name, messages),
            Operation::Open => self.open(&header, messages),
            Operation::OpenDirectory => Ok(protocol::open_body(0, true)),
            Operation::ReadDirectory { offset, size } => Ok(protocol::directory_body(&self.entries(), offset, size)),
            Operation::Release { handle } => {
                self.release(handle, messages, rumbles);
                Ok(Vec::new())
            }
            Operation::Read { handle, size, nonblocking } => {
                match self.read(handle, header.unique, size, nonblocking) {
                    Some(result) => result,
                    // Answered when there is something.
                    None => return,
                }
            }
            Operation::Write { handle, data } => self.write(handle, data, rumbles),
            Operation::Ioctl { handle, command, input, output_size, narrow } => {
                self.ioctl(handle, command, input, output_size, narrow)
            }
            Operation::Poll { handle, kernel_handle, notify } => {
                self.poll(handle, kernel_handle, notify).map(protocol::poll_body)
            }
            Operation::Interrupt { unique } => {
                for reader in self.handles.values_mut() {
                    reader.interrupt(unique, messages);
                }
                return;
            }
            Operation::FileSystem => Ok(protocol::file_system_body()),
            Operation::Trivial => Ok(Vec::new()),
            Operation::Silent => return,
            Operation::Unknown => Err(libc::ENOSYS),
        };
        messages.push(match body {
            Ok(body) => protocol::answer(header.unique, &body),
            Err(error) => protocol::refusal(header.unique, error),
        });
    }

    fn lookup(&self, header: &Header, name: &std::ffi::OsStr) -> Result<Vec<u8>, i32> {
        let node = match self.named(name) {
            Some(index) => self.slots[index].visible,
            None if name == PLUG_NAME && self.plug.is_none() => Some(PLUG_NODE),
            None => None,
        };
        let attributes = node.and_then(|node| self.attributes(header, node)).ok_or(libc::ENOENT)?;
        Ok(protocol::entry_body(&attributes))
    }

    /// Only what the plug was asked for can be made.
    fn make_node(&mut self, header: &Header, name: &std::ffi::OsStr, messages: &mut Messages) -> Result<Vec<u8>, i32> {
        let index = self.named(name).filter(|index| self.slots[*index].asked).ok_or(libc::EACCES)?;
        if self.slots[index].visible.is_some() {
            return Err(libc::EEXIST);
        }
        self.slots[index].asked = false;
        self.show(index);
        let body = self.lookup(header, name)?;
        // It may have been pulled out meanwhile.
        self.settle(index, messages);
        Ok(body)
    }

    fn unlink(&mut self, name: &std::ffi::OsStr, messages: &mut Messages) -> Result<Vec<u8>, i32> {
        let index = self.named(name).filter(|index| self.slots[*index].asked).ok_or(libc::EACCES)?;
        if self.slots[index].visible.is_none() {
            return Err(libc::ENOENT);
        }
        self.slots[index].asked = false;
        self.silence(index, messages);
        self.hide(index);
        self.settle(index, messages);
        Ok(Vec::new())
    }

    fn open(&mut self, header: &Header, messages: &mut Messages) -> Result<Vec<u8>, i32> {
        let handle = self.next_handle;
        if header.node == PLUG_NODE {
            if self.plug.is_some() {
                return Err(libc::EACCES);
            }
            let mut plug = Plug { handle, ..Plug::default() };
            // The game may have looked before these became visible.
            for index in (0..SLOTS).filter(|index| self.slots[*index].visible.is_some()) {
                plug.tell('~', index, messages);
            }
            self.plug = Some(plug);
            for index in 0..SLOTS {
                self.settle(index, messages);
            }
        } else {
            let index = self.slot_of(header.node).filter(|index| self.slots[*index].wanted).ok_or(libc::ENODEV)?;
            if self.handles.len() >= MAX_HANDLES {
                return Err(libc::EMFILE);
            }
            let slot = u8::try_from(index).unwrap_or(0);
            self.handles.insert(handle, Reader::new(slot, header.node));
        }
        self.next_handle += 1;
        Ok(protocol::open_body(handle, false))
    }

    fn release(&mut self, handle: u64, messages: &mut Messages, rumbles: &mut Vec<Rumble>) {
        if let Some(reader) = self.handles.remove(&handle) {
            rumbles.extend(reader.rumble_at_close());
        } else if self.plug.as_ref().is_some_and(|plug| plug.handle == handle) {
            // Nobody is left to announce: what was asked of it happens without.
            self.plug = None;
            for index in 0..SLOTS {
                self.slots[index].asked = false;
                self.settle(index, messages);
            }
        }
    }

    fn entries(&self) -> Vec<(u64, String)> {
        let mut entries = vec![(ROOT, ".".to_owned()), (ROOT, "..".to_owned())];
        entries.extend((0..SLOTS).filter_map(|index| self.slots[index].visible.map(|node| (node, file_name(index)))));
        entries
    }

    /// The answer to a read, if it can be given now.
    fn read(&mut self, handle: u64, unique: u64, size: usize, nonblocking: bool) -> Option<Result<Vec<u8>, i32>> {
        if let Some(plug) = self.plug.as_mut().filter(|plug| plug.handle == handle) {
            return Some(match plug.lines.pop_front() {
                Some(line) => Ok(line.into_bytes()),
                // Its process polls first.
                None => Err(libc::EAGAIN),
            });
        }
        let Some(reader) = self.handles.get_mut(&handle) else { return Some(Err(libc::EBADF)) };
        match reader.read(unique, size, nonblocking) {
            Outcome::Now(result) => Some(result),
            Outcome::Later => None,
        }
    }

    fn write(&mut self, handle: u64, data: &[u8], rumbles: &mut Vec<Rumble>) -> Result<Vec<u8>, i32> {
        let reader = self.handles.get_mut(&handle).ok_or(libc::EBADF)?;
        rumbles.extend(reader.write(data)?);
        Ok(protocol::write_body(data.len()))
    }

    fn ioctl(&mut self, handle: u64, command: u32, input: &[u8], size: usize, narrow: bool) -> Result<Vec<u8>, i32> {
        let reader = self.handles.get_mut(&handle).ok_or(libc::ENOTTY)?;
        let position = self.slots[usize::from(reader.slot)].position;
        let (result, output) = reader.ioctl(command, input, size, narrow, &position)?;
        Ok(protocol::ioctl_body(result, &output))
    }

    fn poll(&mut self, handle: u64, kernel_handle: u64, notify: bool) -> Result<i16, i32> {
        if let Some(plug) = self.plug.as_mut().filter(|plug| plug.handle == handle) {
            if notify {
                plug.polled = Some(kernel_handle);
            }
            return Ok(if plug.lines.is_empty() { 0 } else { libc::POLLIN });
        }
        let reader = self.handles.get_mut(&handle).ok_or(libc::EBADF)?;
        Ok(reader.poll(kernel_handle, notify))
    }
}

impl Plug {
    fn tell(&mut self, what: char, index: usize, messages: &mut Messages) {
        // One line a slot at a time is asked, so this is bounded.
        self.lines.push_back(format!("{what}{}\n", file_name(index)));
        if let Some(kernel_handle) = self.polled.take() {
            messages.push(protocol::poll_notification(kernel_handle));
        }
    }
}

fn file_name(index: usize) -> String {
    format!("event{index}")
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs().max(1))
}
