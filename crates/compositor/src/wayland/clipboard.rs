//! Text between the player's clipboard and the game's, both ways.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use calloop::generic::Generic;
use calloop::{Interest, Mode, PostAction, RegistrationToken};
use rustix::pipe::PipeFlags;
use smithay::input::Seat;
use smithay::wayland::selection::data_device::{request_data_device_client_selection, set_data_device_selection};
use smithay::wayland::selection::{SelectionHandler, SelectionSource, SelectionTarget};

use super::state::State;
use crate::MAX_CLIPBOARD_BYTES;

/// Names of text, best first.
const TEXT_TYPES: [&str; 5] = ["text/plain;charset=utf-8", "UTF8_STRING", "text/plain", "STRING", "TEXT"];

/// Readers of the player's text that are served at the same time. Each costs a descriptor and a copy.
const READER_LIMIT: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Clipboard {
    /// The type of text that a client offers since this turn.
    offered: Option<String>,
    /// The pipe from which a client's text is being read.
    reading: Option<RegistrationToken>,
    readers: usize,
}

impl SelectionHandler for State {
    type SelectionUserData = Arc<str>;

    fn new_selection(&mut self, target: SelectionTarget, source: Option<SelectionSource>, _seat: Seat<State>) {
        if target != SelectionTarget::Clipboard {
            return;
        }
        // The seat has the new selection only after this call: it is read at the end of the turn.
        self.clipboard.offered = source.and_then(|source| {
            let types = source.mime_types();
            TEXT_TYPES.into_iter().find(|name| types.iter().any(|offered| offered == name)).map(str::to_owned)
        });
    }

    fn send_selection(
        &mut self,
        _target: SelectionTarget,
        _mime_type: String,
        fd: OwnedFd,
        _seat: Seat<State>,
        text: &Arc<str>,
    ) {
        if self.clipboard.readers >= READER_LIMIT || rustix::io::ioctl_fionbio(&fd, true).is_err() {
            return;
        }
        let (text, mut written) = (Arc::clone(text), 0);
        let source = Generic::new(std::fs::File::from(fd), Interest::WRITE, Mode::Level);
        let added = self.events.insert_source(source, move |_, file, state| {
            let mut pipe: &std::fs::File = file;
            loop {
                match pipe.write(text.as_bytes().get(written..).unwrap_or_default()) {
                    Ok(count) if count > 0 => written += count,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(PostAction::Continue),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    // Done, or the reader is gone.
                    Ok(_) | Err(_) => {
                        state.clipboard.readers -= 1;
                        return Ok(PostAction::Remove);
                    }
                }
            }
        });
        match added {
            Ok(_) => self.clipboard.readers += 1,
            // A descriptor that cannot be polled is no pipe: nobody waits at its other end.
            Err(error) => tracing::debug!(%error, "a client did not get the clipboard"),
        }
    }
}

impl State {
    /// The player copied.
    pub(crate) fn set_clipboard(&mut self, text: String) {
        self.emitter.remember_clipboard(&text);
        if let Some(xwayland) = &self.xwayland {
            xwayland.manager.set_clipboard(text.clone());
        }
        self.offer_text(&text);
    }

    /// Offers a text to Wayland clients.
    pub(crate) fn offer_text(&mut self, text: &str) {
        let types = TEXT_TYPES.map(str::to_owned).to_vec();
        set_data_device_selection(&self.display, &self.seat, types, Arc::from(text));
    }

    /// Begins to read what a client offered in this turn.
    pub(crate) fn settle_clipboard(&mut self) {
        let Some(offered) = self.clipboard.offered.take() else { return };
        if let Some(token) = self.clipboard.reading.take() {
            self.events.remove(token);
        }
        // The client's end blocks, as clients expect.
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .and_then(|(reader, writer)| rustix::io::ioctl_fionbio(&reader, true).map(|()| (reader, writer)));
        let Ok((reader, writer)) = pipe else {
            tracing::warn!("the game's clipboard was not read: no pipe");
            return;
        };
        if request_data_device_client_selection(&self.seat, offered, writer).is_err() {
            return;
        }
        let mut text = Vec::new();
        let source = Generic::new(reader, Interest::READ, Mode::Level);
        let added = self.events.insert_source(source, move |_, pipe, state| {
            let mut chunk = [0; 4096];
            loop {
                match rustix::io::read(&*pipe, &mut chunk) {
                    Ok(count) if count > 0 => text.extend_from_slice(&chunk[..count]),
                    Err(rustix::io::Errno::AGAIN) => return Ok(PostAction::Continue),
                    Err(rustix::io::Errno::INTR) => continue,
                    Ok(_) | Err(_) => break,
                }
                if text.len() > MAX_CLIPBOARD_BYTES {
                    break;
                }
            }
            state.clipboard.reading = None;
            state.game_copied(&text);
            Ok(PostAction::Remove)
        });
        match added {
            Ok(token) => self.clipboard.reading = Some(token),
            Err(error) => tracing::warn!(%error, "the game's clipboard was not read"),
        }
    }

    fn game_copied(&mut self, bytes: &[u8]) {
        let text = clipped(bytes);
        if !text.is_empty()
            && self.emitter.clipboard(&text)
            && let Some(xwayland) = &self.xwayland
        {
            xwayland.manager.set_clipboard(text);
        }
    }
}

/// The text in these bytes, cut to the limit at a character.
pub(crate) fn clipped(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(MAX_CLIPBOARD_BYTES));
    text
}
