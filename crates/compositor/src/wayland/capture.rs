//! From what is visible to a picture: directly from the game's buffer where one window fills it, else by composition.

use std::time::Instant;

use media::{ConvertError, PackedFormat, PackedImage, Picture, convert_into};
use smithay::reexports::pixman::{Color, Filter, FormatCode, Image, Operation, Repeat, Solid, Transform as Matrix};
use smithay::reexports::wayland_server::protocol::wl_shm::Format;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, Size, Transform};

use super::content::{Content, Pixels, with_content};
use super::scene::{Element, Scene, View, is_direct};
use crate::sys;

/// How a shm format is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formats {
    pub(crate) packed: PackedFormat,
    pub(crate) pixman: FormatCode,
    pub(crate) opaque: bool,
}

/// The formats that clients may use; these alone are advertised.
pub(crate) fn formats(format: Format) -> Option<Formats> {
    let (packed, pixman, opaque) = match format {
        Format::Xrgb8888 => (PackedFormat::Bgrx, FormatCode::X8R8G8B8, true),
        Format::Argb8888 => (PackedFormat::Bgrx, FormatCode::A8R8G8B8, false),
        Format::Xbgr8888 => (PackedFormat::Rgbx, FormatCode::X8B8G8R8, true),
        Format::Abgr8888 => (PackedFormat::Rgbx, FormatCode::A8B8G8R8, false),
        _ => return None,
    };
    Some(Formats { packed, pixman, opaque })
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The client took the buffer's memory away, or it is no buffer of a known kind.
    #[error("the buffer cannot be read")]
    Unreadable,
    /// See there.
    #[error("the buffer cannot be converted")]
    Convert(#[from] ConvertError),
    /// Out of memory.
    #[error("there is no memory for a picture")]
    Memory,
}

/// Memory for composition, kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    pixels: Vec<u32>,
}

/// Draws the scene into the picture, and gives back the buffer that was read on the direct path.
pub(crate) fn draw(scene: &Scene, canvas: &mut Canvas, picture: &mut Picture) -> Result<(), CaptureError> {
    let size = picture.size();
    let logical: Size<i32, Logical> = (size.width() as i32, size.height() as i32).into();
    if is_direct(scene, logical) {
        return with_content(&scene.elements[0].surface, |content| {
            let content = content.ok_or(CaptureError::Unreadable)?;
            let result = convert(content, picture);
            content.release();
            result
        });
    }
    let (width, height) = (size.width() as usize, size.height() as usize);
    canvas.pixels.resize(width * height, 0);
    canvas.pixels.fill(0);
    {
        let mut image =
            Image::from_slice_mut(FormatCode::X8R8G8B8, width, height, &mut canvas.pixels, width * 4, false)
                .map_err(|_out_of_memory| CaptureError::Memory)?;
        for element in &scene.elements {
            with_content(&element.surface, |content| {
                content.map_or(Ok(()), |content| compose(content, element, scene.view, &mut image))
            })?;
        }
    }
    let bytes = sys::canvas_bytes(&canvas.pixels);
    let image = PackedImage {
        bytes,
        width: size.width(),
        height: size.height(),
        stride: width * 4,
        format: PackedFormat::Bgrx,
    };
    Ok(convert_into(image, picture)?)
}

fn convert(content: &Content, picture: &mut Picture) -> Result<(), CaptureError> {
    let converted = sys::with_pixels(&content.buffer, |bytes, data| {
        let formats = formats(data.format)?;
        let image = PackedImage {
            bytes,
            width: data.width as u32,
            height: data.height as u32,
            stride: data.stride as usize,
            format: formats.packed,
        };
        Some(convert_into(image, picture))
    });
    Ok(converted.ok().flatten().ok_or(CaptureError::Unreadable)??)
}

fn compose(content: &Content, element: &Element, view: View, canvas: &mut Image<'_, '_>) -> Result<(), CaptureError> {
    let start = view.to_picture(element.position.to_f64());
    let end = view.to_picture((element.position + Point::from((element.size.w, element.size.h))).to_f64());
    let target = Target {
        x: start.x.round() as i32,
        y: start.y.round() as i32,
        width: (end.x.round() - start.x.round()) as i32,
        height: (end.y.round() - start.y.round()) as i32,
    };
    // Pixman computes in 16 bits and a fraction.
    let fits = |value: i32| (-32_767..=32_767).contains(&value);
    if target.width <= 0
        || target.height <= 0
        || [target.x, target.y, target.width, target.height].map(fits).contains(&false)
    {
        return Ok(());
    }
    let operation = if content.opaque { Operation::Src } else { Operation::Over };
    match &content.pixels {
        Pixels::Solid(rgba) => {
            let wide = |value: u8| u16::from(value) * 257;
            let [red, green, blue, alpha] = rgba.map(wide);
            let color = Color::new(red, green, blue, alpha);
            let solid = Solid::new(color).map_err(|_out_of_memory| CaptureError::Memory)?;
            target.composite(canvas, operation, &solid);
            Ok(())
        }
        Pixels::Shm(_) => sys::with_pixels(&content.buffer, |bytes, data| {
            let formats = formats(data.format).ok_or(CaptureError::Unreadable)?;
            let (width, height) = (data.width as usize, data.height as usize);
            let mut image = sys::source_image(formats.pixman, width, height, bytes, data.stride as usize)
                .ok_or(CaptureError::Unreadable)?;
            let plain = content.source.is_none()
                && content.transform == Transform::Normal
                && (target.width, target.height) == (data.width, data.height);
            if !plain {
                let matrix = buffer_matrix(content, (data.width, data.height), &target);
                image.set_transform(matrix).map_err(|_failed| CaptureError::Memory)?;
                image.set_filter(Filter::Bilinear, &[]).map_err(|_failed| CaptureError::Memory)?;
                // Without it the edges blend with nothing, and a scaled window gets a dark frame.
                image.set_repeat(Repeat::Pad);
            }
            target.composite(canvas, operation, &image);
            Ok(())
        })
        .map_err(|_gone| CaptureError::Unreadable)?,
    }
}

struct Target {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
}

impl Target {
    fn composite(
        &self,
        canvas: &mut Image<'_, '_>,
        operation: Operation,
        source: &smithay::reexports::pixman::ImageRef,
    ) {
        canvas.composite32(operation, source, None, (0, 0), (0, 0), (self.x, self.y), (self.width, self.height));
    }
}

/// Pixman's matrix: from pixels of the target rectangle to pixels of the buffer.
fn buffer_matrix(content: &Content, buffer: (i32, i32), target: &Target) -> Matrix {
    let (width, height) = (f64::from(buffer.0), f64::from(buffer.1));
    let turned = match content.transform {
        Transform::_90 | Transform::_270 | Transform::Flipped90 | Transform::Flipped270 => (height, width),
        Transform::Normal | Transform::_180 | Transform::Flipped | Transform::Flipped180 => (width, height),
    };
    let (source_x, source_y, source_width, source_height) = match content.source {
        Some(source) => (source.loc.x, source.loc.y, source.size.w, source.size.h),
        None => (0.0, 0.0, turned.0, turned.1),
    };
    let scale_x = source_width / f64::from(target.width);
    let scale_y = source_height / f64::from(target.height);
    // The matrix from the upright surface to the buffer, read off smithay's own transform.
    let area: Size<f64, Logical> = turned.into();
    let inverse = content.transform.invert();
    let map = |x: f64, y: f64| inverse.transform_point_in(Point::<f64, Logical>::from((x, y)), &area);
    let (origin, right, down) = (map(0.0, 0.0), map(1.0, 0.0), map(0.0, 1.0));
    let row = |origin: f64, right: f64, down: f64| {
        let (x, y) = (right - origin, down - origin);
        [x * scale_x, y * scale_y, x * source_x + y * source_y + origin]
    };
    Matrix::new([row(origin.x, right.x, down.x), row(origin.y, right.y, down.y), [0.0, 0.0, 1.0]])
}

/// A black picture.
pub(crate) fn draw_black(picture: &mut Picture) {
    let (luma, u, v) = picture.planes_mut();
    luma.fill(16);
    u.fill(128);
    v.fill(128);
}

/// When a commit that is to be shown happened, and what the game had been told before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) committed: Instant,
    pub(crate) input: Option<media::InputMark>,
}

/// Surfaces for which the scene's visible set decides.
pub(crate) fn surfaces(scene: &Scene) -> impl Iterator<Item = &WlSurface> {
    scene.elements.iter().map(|element| &element.surface)
}
