//! The pointer's look, told to the player.

use smithay::input::pointer::{CursorImageStatus, CursorImageSurfaceData};
use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::compositor::with_states;
use wire::{Cursor, CursorImage};

use super::capture::formats;
use super::content::{Pixels, with_content};
use super::state::State;
use crate::{MAX_CURSOR_SIDE, sys};

impl State {
    pub(crate) fn tell_cursor(&mut self) {
        let cursor = match &self.cursor {
            CursorImageStatus::Hidden => Some(Cursor::Hidden),
            CursorImageStatus::Named(icon) => Some(Cursor::Named(icon.name().to_owned())),
            CursorImageStatus::Surface(surface) if surface.is_alive() => read(surface),
            CursorImageStatus::Surface(_) => Some(Cursor::Named("default".to_owned())),
        };
        if let Some(cursor) = cursor {
            self.emitter.cursor(cursor);
        }
    }
}

/// The picture of a cursor's surface; hidden when it has none, `None` when it cannot be read.
fn read(surface: &WlSurface) -> Option<Cursor> {
    let hotspot = with_states(surface, |states| {
        states
            .data_map
            .get::<CursorImageSurfaceData>()
            .map(|data| data.lock().unwrap_or_else(std::sync::PoisonError::into_inner).hotspot)
    })?;
    with_content(surface, |content| {
        let Some(content) = content else { return Some(Cursor::Hidden) };
        let Pixels::Shm(_) = content.pixels else { return Some(Cursor::Hidden) };
        let image = sys::with_pixels(&content.buffer, |bytes, data| {
            let width = (data.width as u32).min(MAX_CURSOR_SIDE);
            let height = (data.height as u32).min(MAX_CURSOR_SIDE);
            let mut rgba = Vec::with_capacity((width * height * 4) as usize);
            let formats = formats(data.format)?;
            for y in 0..height as usize {
                let row = bytes.get(y * data.stride as usize..)?.get(..width as usize * 4)?;
                for pixel in row.as_chunks::<4>().0 {
                    let alpha = if formats.opaque { 255 } else { pixel[3] };
                    let [red, green, blue] = match formats.packed {
                        media::PackedFormat::Bgrx => [pixel[2], pixel[1], pixel[0]],
                        media::PackedFormat::Rgbx => [pixel[0], pixel[1], pixel[2]],
                    };
                    rgba.extend_from_slice(&straight(red, green, blue, alpha));
                }
            }
            Some(cursor_image(width, height, (hotspot.x, hotspot.y), rgba))
        });
        content.release();
        image.ok().flatten()
    })
}

/// From premultiplied to straight alpha.
pub(crate) fn straight(red: u8, green: u8, blue: u8, alpha: u8) -> [u8; 4] {
    let divide = |value: u8| match alpha {
        0 => 0,
        255 => value,
        _ => (u16::from(value) * 255 / u16::from(alpha)).min(255) as u8,
    };
    [divide(red), divide(green), divide(blue), alpha]
}

/// A cursor of these pixels: hidden when nothing of it can be seen.
pub(crate) fn cursor_image(width: u32, height: u32, hotspot: (i32, i32), rgba: Vec<u8>) -> Cursor {
    if rgba.as_chunks::<4>().0.iter().all(|pixel| pixel[3] == 0) {
        return Cursor::Hidden;
    }
    let inside = |value: i32, length: u32| value.clamp(0, length as i32 - 1) as u16;
    Cursor::Image(CursorImage {
        width: width as u16,
        height: height as u16,
        hotspot_x: inside(hotspot.0, width),
        hotspot_y: inside(hotspot.1, height),
        rgba,
    })
}
