//! What a surface shows: its buffer, and when the client gets it back.
//!
//! A buffer is released when it was converted on the direct path or replaced, whichever comes first. It stays readable
//! after that (a client that draws into it tears one composed picture, which its next commit mends) and even after it
//! was destroyed, because the buffer's handle keeps the pool mapped.

use std::cell::RefCell;

use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Rectangle, Size};
use smithay::wayland::compositor::{BufferAssignment, SurfaceAttributes, SurfaceData, with_states};
use smithay::wayland::shm::{BufferData, with_buffer_contents};
use smithay::wayland::single_pixel_buffer::get_single_pixel_buffer;
use smithay::wayland::viewporter::{ViewportCachedState, ensure_viewport_valid};

/// A surface's picture.
#[derive(Clone, Debug)]
pub(crate) enum Pixels {
    /// In shared memory.
    Shm(BufferData),
    /// One colour: red, green, blue, alpha, premultiplied.
    Solid([u8; 4]),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) buffer: WlBuffer,
    pub(crate) pixels: Pixels,
    released: bool,
    /// Size in surface coordinates, after scale and viewport.
    pub(crate) size: Size<i32, Logical>,
    /// The part of the buffer that is shown, in buffer pixels; `None` for all of it.
    pub(crate) source: Option<Rectangle<f64, Logical>>,
    /// The buffer is turned or mirrored (`wl_surface.set_buffer_transform`).
    pub(crate) transform: smithay::utils::Transform,
    /// The whole surface is opaque, by its format or by what the client said.
    pub(crate) opaque: bool,
}

type Slot = RefCell<Option<Content>>;

impl Content {
    /// Gives the buffer back to the client, once.
    pub(crate) fn release(&mut self) {
        if !std::mem::replace(&mut self.released, true) && self.buffer.is_alive() {
            self.buffer.release();
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.release();
    }
}

/// Takes over what a commit attached. True when the picture changed.
pub(crate) fn apply_commit(surface: &WlSurface) -> bool {
    with_states(surface, |states| {
        let slot = slot(states);
        let mut cached = states.cached_state.get::<SurfaceAttributes>();
        let attributes = cached.current();
        let damaged = !std::mem::take(&mut attributes.damage).is_empty();
        let assignment = attributes.buffer.take();
        let (scale, transform) = (attributes.buffer_scale.max(1), attributes.buffer_transform);
        let opaque_region = attributes.opaque_region.clone();
        drop(cached);
        let attached = assignment.is_some();
        match assignment {
            Some(BufferAssignment::NewBuffer(buffer)) => replace(slot, &buffer),
            Some(BufferAssignment::Removed) => *slot.borrow_mut() = None,
            None => {}
        }
        let mut slot = slot.borrow_mut();
        let Some(content) = slot.as_mut() else { return attached };
        let before = (content.size, content.source, content.transform);
        update_geometry(states, content, scale, transform.into());
        let formatted_opaque = match &content.pixels {
            Pixels::Shm(data) => super::capture::formats(data.format).is_some_and(|formats| formats.opaque),
            Pixels::Solid(rgba) => rgba[3] == 255,
        };
        let whole = Rectangle::from_size(content.size);
        content.opaque = formatted_opaque
            || opaque_region.is_some_and(|region| {
                region.rects.iter().any(|(_, rect)| rect.contains_rect(whole)) && region.rects.len() == 1
            });
        attached || damaged || before != (content.size, content.source, content.transform)
    })
}

fn slot(states: &SurfaceData) -> &Slot {
    states.data_map.insert_if_missing(|| Slot::new(None));
    // Inserted above; a leaked empty slot would only hide the surface.
    states.data_map.get::<Slot>().unwrap_or_else(|| unreachable!("inserted above"))
}

fn replace(slot: &Slot, buffer: &WlBuffer) {
    let mut slot = slot.borrow_mut();
    let pixels = if let Ok(pixel) = get_single_pixel_buffer(buffer) {
        Some(Pixels::Solid(pixel.rgba8888()))
    } else {
        with_buffer_contents(buffer, |_, _, data| data).ok().map(Pixels::Shm)
    };
    if let Some(content) = slot.as_mut()
        && content.buffer == *buffer
    {
        // The same buffer again, with new pixels: it is ours once more.
        content.released = false;
        return;
    }
    *slot = pixels.map(|pixels| Content {
        buffer: buffer.clone(),
        pixels,
        released: false,
        size: (0, 0).into(),
        source: None,
        transform: smithay::utils::Transform::Normal,
        opaque: false,
    });
}

fn update_geometry(states: &SurfaceData, content: &mut Content, scale: i32, transform: smithay::utils::Transform) {
    let buffer_size: Size<i32, Logical> = match &content.pixels {
        Pixels::Shm(data) => (data.width, data.height).into(),
        Pixels::Solid(_) => (1, 1).into(),
    };
    let turned = transform.transform_size(buffer_size);
    let natural: Size<i32, Logical> = ((turned.w / scale).max(1), (turned.h / scale).max(1)).into();
    content.transform = transform;
    content.size = natural;
    content.source = None;
    if ensure_viewport_valid(states, natural) {
        let mut cached = states.cached_state.get::<ViewportCachedState>();
        let viewport = cached.current();
        content.size = viewport.size().unwrap_or(natural);
        let factor = f64::from(scale);
        content.source = viewport.src.map(|source| {
            Rectangle::new(
                (source.loc.x * factor, source.loc.y * factor).into(),
                (source.size.w * factor, source.size.h * factor).into(),
            )
        });
    }
}

/// Lends a surface's content.
pub(crate) fn with_content<T>(surface: &WlSurface, read: impl FnOnce(Option<&mut Content>) -> T) -> T {
    with_states(surface, |states| read(slot(states).borrow_mut().as_mut()))
}

/// Size of what the surface shows, in surface coordinates; `None` when it shows nothing.
pub(crate) fn content_size(surface: &WlSurface) -> Option<Size<i32, Logical>> {
    with_content(surface, |content| content.map(|content| content.size))
}

/// [`content_size`] of a surface whose data is at hand.
pub(crate) fn size_of(states: &SurfaceData) -> Option<Size<i32, Logical>> {
    slot(states).borrow().as_ref().map(|content| content.size)
}
