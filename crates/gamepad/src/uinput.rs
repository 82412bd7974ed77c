//! Pads as real input devices of the kernel. Needs `/dev/uinput` open and `CAP_MKNOD`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use wire::PadState;

use crate::evdev::{EV_ABS, EV_FF, EV_KEY, Effect, Event, FF_RUMBLE, Width};
use crate::pad::{self, Position};
use crate::sys::{ioctl_bytes, ioctl_number};
use crate::{OnRumble, PadError, Rumble, SLOTS};

/// `linux/uinput.h`.
const UI_DEV_CREATE: u32 = 0x5501;
const UI_DEV_DESTROY: u32 = 0x5502;
const UI_DEV_SETUP: u32 = 0x405C_5503;
const UI_ABS_SETUP: u32 = 0x401C_5504;
const UI_SET_EVBIT: u32 = 0x4004_5564;
const UI_SET_KEYBIT: u32 = 0x4004_5565;
const UI_SET_ABSBIT: u32 = 0x4004_5567;
const UI_SET_FFBIT: u32 = 0x4004_556B;
const UI_GET_SYSNAME_64: u32 = 0x8040_552C;
const UI_BEGIN_FF_UPLOAD: u32 = 0xC068_55C8;
const UI_END_FF_UPLOAD: u32 = 0x4068_55C9;
const UI_BEGIN_FF_ERASE: u32 = 0xC00C_55CA;
const UI_END_FF_ERASE: u32 = 0x400C_55CB;
const EV_UINPUT: u16 = 0x0101;
const UI_FF_UPLOAD: u16 = 1;
const UI_FF_ERASE: u16 = 2;

/// Where the kernel lists devices that programs made.
const VIRTUAL: &str = "/sys/devices/virtual/input";

/// The pads of one game.
pub(crate) struct UinputPads {
    devices: Arc<Vec<OwnedFd>>,
    directory: PathBuf,
    slots: Mutex<[Option<Position>; SLOTS]>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl UinputPads {
    pub(crate) fn start(devices: Vec<OwnedFd>, directory: PathBuf, on_rumble: OnRumble) -> io::Result<Self> {
        for device in &devices {
            rustix::io::ioctl_fionbio(device, true)?;
        }
        let devices = Arc::new(devices);
        let (stop, stopped) = UnixStream::pair()?;
        let served = Arc::clone(&devices);
        let thread = std::thread::Builder::new().name("pads".to_owned()).spawn(move || {
            if let Err(error) = serve(&served, &stopped, on_rumble) {
                tracing::warn!(%error, "the gamepads no longer rumble");
            }
        })?;
        Ok(Self { devices, directory, slots: Mutex::default(), stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn connect(&self, slot: u8) -> Result<(), PadError> {
        self.with_slot(slot, |device, position| {
            if position.is_some() {
                return Ok(());
            }
            create(device, slot).map_err(|source| PadError::Kernel { step: "make the input device", source })?;
            let node = self.node(slot);
            if let Err(source) = make_node(device, &node) {
                ioctl_number(device.as_fd(), UI_DEV_DESTROY, 0).ok();
                return Err(PadError::Kernel { step: "make the input device's node", source });
            }
            *position = Some(Position::default());
            Ok(())
        })
    }

    pub(crate) fn disconnect(&self, slot: u8) -> Result<(), PadError> {
        self.with_slot(slot, |device, position| {
            if position.take().is_some() {
                remove(device, &self.node(slot))
                    .map_err(|source| PadError::Kernel { step: "remove the input device", source })?;
            }
            Ok(())
        })
    }

    pub(crate) fn update(&self, slot: u8, state: &PadState) -> Result<(), PadError> {
        self.connect(slot)?;
        self.with_slot(slot, |device, position| {
            let next = Position::of(state);
            let mut bytes = Vec::new();
            for event in position.unwrap_or_default().events_to(&next) {
                // The kernel sets the time.
                event.write(0, 0, Width::Bits64, &mut bytes);
            }
            *position = Some(next);
            if !bytes.is_empty() {
                rustix::io::write(device, &bytes)
                    .map_err(|source| PadError::Kernel { step: "write to the input device", source: source.into() })?;
            }
            Ok(())
        })
    }

    fn node(&self, slot: u8) -> PathBuf {
        self.directory.join(format!("event{slot}"))
    }

    fn with_slot<T>(
        &self,
        slot: u8,
        work: impl FnOnce(&OwnedFd, &mut Option<Position>) -> Result<T, PadError>,
    ) -> Result<T, PadError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(slot);
        let (Some(device), Some(position)) = (self.devices.get(index), slots.get_mut(index)) else {
            return Err(PadError::Slot(slot));
        };
        work(device, position)
    }
}

impl Drop for UinputPads {
    fn drop(&mut self) {
        for slot in 0..u8::try_from(SLOTS).unwrap_or(0) {
            // Slots without a device answer so; the rest goes with its descriptor anyway.
            self.disconnect(slot).ok();
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the gamepads' thread panicked");
        }
    }
}

fn create(device: &OwnedFd, slot: u8) -> io::Result<()> {
    let fd = device.as_fd();
    for kind in [EV_KEY, EV_ABS, EV_FF] {
        ioctl_number(fd, UI_SET_EVBIT, kind.into())?;
    }
    pad::keys().try_for_each(|key| ioctl_number(fd, UI_SET_KEYBIT, key.into()))?;
    ioctl_number(fd, UI_SET_FFBIT, FF_RUMBLE.into())?;
    for axis in pad::AXES {
        ioctl_number(fd, UI_SET_ABSBIT, axis.code.into())?;
        // struct uinput_abs_setup: the code, two bytes of padding, struct input_absinfo.
        let mut setup = vec![0; 4];
        setup[..2].copy_from_slice(&axis.code.to_ne_bytes());
        for number in [0, axis.minimum, axis.maximum, axis.fuzz, axis.flat, 0] {
            setup.extend(i32::to_ne_bytes(number));
        }
        ioctl_bytes(fd, UI_ABS_SETUP, &mut setup)?;
    }
    // struct uinput_setup: struct input_id, 80 bytes of name, effects.
    let mut setup: Vec<u8> =
        [pad::BUS, pad::VENDOR, pad::PRODUCT, pad::VERSION].iter().flat_map(|part| part.to_ne_bytes()).collect();
    setup.extend(pad::NAME.as_bytes());
    setup.resize(88, 0);
    setup.extend(u32::from(pad::EFFECTS).to_ne_bytes());
    ioctl_bytes(fd, UI_DEV_SETUP, &mut setup)?;
    tracing::debug!(slot, "gamepad connected");
    ioctl_number(fd, UI_DEV_CREATE, 0)
}

/// Makes the device's node where the game looks.
fn make_node(device: &OwnedFd, node: &Path) -> io::Result<()> {
    let mut name = vec![0; 64];
    ioctl_bytes(device.as_fd(), UI_GET_SYSNAME_64, &mut name)?;
    let name = String::from_utf8_lossy(&name);
    let numbers = event_number(&Path::new(VIRTUAL).join(name.trim_end_matches('\0')))?;
    let (major, minor) = numbers.trim().split_once(':').ok_or(io::ErrorKind::InvalidData)?;
    let number = |text: &str| {
        text.parse().map_err(|error: std::num::ParseIntError| io::Error::new(io::ErrorKind::InvalidData, error))
    };
    let device = makedev(number(major)?, number(minor)?);
    match fs::remove_file(node) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    mknodat(CWD, node, FileType::CharacterDevice, Mode::from_raw_mode(0o600), device)?;
    // The game has a uid of its own; the directory is shown to it alone.
    fs::set_permissions(node, fs::Permissions::from_mode(0o666))
}

/// The `dev` file of the event device below an input device.
fn event_number(input: &Path) -> io::Result<String> {
    for entry in fs::read_dir(input)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("event") {
            return fs::read_to_string(entry.path().join("dev"));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn remove(device: &OwnedFd, node: &Path) -> io::Result<()> {
    let removed = fs::remove_file(node);
    ioctl_number(device.as_fd(), UI_DEV_DESTROY, 0)?;
    removed
}

/// Takes effects from the kernel, which sends what games upload and play back to whoever made the device.
fn serve(devices: &[OwnedFd], stopped: &UnixStream, mut on_rumble: OnRumble) -> io::Result<()> {
    let mut effects: Vec<BTreeMap<u32, Effect>> = devices.iter().map(|_| BTreeMap::new()).collect();
    loop {
        let mut sources: Vec<PollFd<'_>> = devices.iter().map(|device| PollFd::new(device, PollFlags::IN)).collect();
        sources.push(PollFd::new(stopped, PollFlags::IN));
        rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
        if sources.last().is_some_and(|source| !source.revents().is_empty()) {
            return Ok(());
        }
        for ((slot, device), effects) in (0_u8..).zip(devices).zip(&mut effects) {
            let mut bytes = [0; 24 * 16];
            let count = match rustix::io::read(device, &mut bytes) {
                Ok(count) => count,
                // NODEV: not made yet, or destroyed.
                Err(Errno::AGAIN | Errno::NODEV | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in bytes[..count].chunks_exact(24).filter_map(Event::read) {
                if let Some(rumble) = feedback(device, slot, event, effects)? {
                    on_rumble(rumble);
                }
            }
        }
    }
}

fn feedback(
    device: &OwnedFd,
    slot: u8,
    event: Event,
    effects: &mut BTreeMap<u32, Effect>,
) -> io::Result<Option<Rumble>> {
    let request = event.value.to_ne_bytes();
    match (event.kind, event.code) {
        (EV_UINPUT, UI_FF_UPLOAD) => {
            // struct uinput_ff_upload: request, result, the effect, the one that it replaces.
            let mut upload = vec![0; 104];
            upload[..4].copy_from_slice(&request);
            ioctl_bytes(device.as_fd(), UI_BEGIN_FF_UPLOAD, &mut upload)?;
            if let Some(effect) = Effect::read(&upload[8..56])
                && let Ok(id) = u32::try_from(effect.id)
            {
                effects.insert(id, effect);
            }
            upload[4..8].fill(0);
            ioctl_bytes(device.as_fd(), UI_END_FF_UPLOAD, &mut upload)?;
        }
        (EV_UINPUT, UI_FF_ERASE) => {
            let mut erase = vec![0; 12];
            erase[..4].copy_from_slice(&request);
            ioctl_bytes(device.as_fd(), UI_BEGIN_FF_ERASE, &mut erase)?;
            effects.remove(&u32::from_ne_bytes([erase[8], erase[9], erase[10], erase[11]]));
            erase[4..8].fill(0);
            ioctl_bytes(device.as_fd(), UI_END_FF_ERASE, &mut erase)?;
        }
        (EV_FF, id) => {
            let effect = effects.get(&u32::from(id)).copied().unwrap_or_default();
            return Ok(Some(effect.rumble(slot, event.value)));
        }
        _ => {}
    }
    Ok(None)
}
