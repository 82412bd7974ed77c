//! The X11 clipboard: text only, whole texts only.

use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask, SelectionNotifyEvent as OwnerChange};
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, SELECTION_NOTIFY_EVENT,
    SelectionNotifyEvent, SelectionRequestEvent, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::wm::{Atoms, WmError};
use crate::MAX_CLIPBOARD_BYTES;

/// See the module.
#[derive(Debug)]
pub(super) struct Selection {
    /// Owns what the player copied, and receives what the game copied.
    pub(super) window: Window,
    text: String,
}

impl Selection {
    pub(super) fn new(connection: &RustConnection, root: Window, atoms: &Atoms) -> Result<Selection, WmError> {
        let window = connection.generate_id()?;
        let attributes = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        connection.create_window(0, window, root, -1, -1, 1, 1, 0, WindowClass::INPUT_ONLY, 0, &attributes)?;
        connection.xfixes_query_version(5, 0)?.reply()?;
        let mask = SelectionEventMask::SET_SELECTION_OWNER;
        connection.xfixes_select_selection_input(window, atoms.CLIPBOARD, mask)?;
        Ok(Selection { window, text: String::new() })
    }

    /// The player copied.
    pub(super) fn offer(&mut self, connection: &RustConnection, atoms: &Atoms, text: String) -> Result<(), WmError> {
        self.text = text;
        connection.set_selection_owner(self.window, atoms.CLIPBOARD, x11rb::CURRENT_TIME)?;
        Ok(())
    }

    /// Handles the events of selections; returns what a client copied.
    pub(super) fn handle(
        &mut self,
        connection: &RustConnection,
        atoms: &Atoms,
        event: &Event,
    ) -> Result<Option<String>, WmError> {
        match event {
            Event::XfixesSelectionNotify(change) => self.ask(connection, atoms, change)?,
            Event::SelectionRequest(request) if request.owner == self.window => {
                self.answer(connection, atoms, request)?;
            }
            Event::SelectionNotify(notify) if notify.requestor == self.window && notify.property != x11rb::NONE => {
                return self.read(connection, atoms);
            }
            _ => {}
        }
        Ok(None)
    }

    fn ask(&self, connection: &RustConnection, atoms: &Atoms, change: &OwnerChange) -> Result<(), WmError> {
        if change.selection == atoms.CLIPBOARD && change.owner != self.window && change.owner != x11rb::NONE {
            let property = atoms._KITE_CLIPBOARD;
            connection.convert_selection(
                self.window,
                atoms.CLIPBOARD,
                atoms.UTF8_STRING,
                property,
                change.selection_timestamp,
            )?;
        }
        Ok(())
    }

    fn read(&self, connection: &RustConnection, atoms: &Atoms) -> Result<Option<String>, WmError> {
        let words = (MAX_CLIPBOARD_BYTES / 4) as u32;
        let property =
            connection.get_property(true, self.window, atoms._KITE_CLIPBOARD, AtomEnum::ANY, 0, words)?.reply()?;
        if property.type_ == atoms.INCR {
            tracing::debug!("a text that comes in pieces was not copied");
            return Ok(None);
        }
        if property.format != 8 {
            return Ok(None);
        }
        let mut text = String::from_utf8_lossy(&property.value).into_owned();
        text.truncate(text.floor_char_boundary(MAX_CLIPBOARD_BYTES));
        Ok((!text.is_empty()).then_some(text))
    }

    fn answer(
        &self,
        connection: &RustConnection,
        atoms: &Atoms,
        request: &SelectionRequestEvent,
    ) -> Result<(), WmError> {
        // Clients older than ICCCM 1 name no property.
        let property = if request.property == x11rb::NONE { request.target } else { request.property };
        let (window, target) = (request.requestor, request.target);
        let texts = [atoms.UTF8_STRING, atoms.TEXT, atoms.PLAIN_UTF8, atoms.PLAIN];
        let written = if target == atoms.TARGETS {
            let mut targets: Vec<Atom> = vec![atoms.TARGETS, AtomEnum::STRING.into()];
            targets.extend(texts);
            connection.change_property32(PropMode::REPLACE, window, property, AtomEnum::ATOM, &targets)?;
            property
        } else if texts.contains(&target) {
            let kind = if target == atoms.TEXT { atoms.UTF8_STRING } else { target };
            connection.change_property8(PropMode::REPLACE, window, property, kind, self.text.as_bytes())?;
            property
        } else if target == u32::from(AtomEnum::STRING) {
            // By definition Latin-1.
            let latin: Vec<u8> = self.text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
            connection.change_property8(PropMode::REPLACE, window, property, AtomEnum::STRING, &latin)?;
            property
        } else {
            x11rb::NONE
        };
        let notify = SelectionNotifyEvent {
            response_type: SELECTION_NOTIFY_EVENT,
            sequence: 0,
            time: request.time,
            requestor: window,
            selection: request.selection,
            target,
            property: written,
        };
        connection.send_event(false, window, EventMask::NO_EVENT, notify)?;
        Ok(())
    }
}
