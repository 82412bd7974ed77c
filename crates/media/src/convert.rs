//! Packed RGB to I420, in one pass from the game's own buffer, scaling when sizes differ.

use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix, bgra_to_yuv420, rgba_to_yuv420,
};

use crate::{ColorMatrix, Picture};

/// Order of the four bytes of a pixel in memory. The fourth byte is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedFormat {
    /// Blue, green, red, x: Wayland's and X11's usual XRGB8888 and ARGB8888 on little-endian machines.
    Bgrx,
    /// Red, green, blue, x: XBGR8888 and ABGR8888.
    Rgbx,
}

/// A borrowed picture of four bytes a pixel.
#[derive(Clone, Copy, Debug)]
pub struct PackedImage<'a> {
    /// Rows of pixels; the last row may end at its last pixel.
    pub bytes: &'a [u8],
    /// Width in pixels. Any positive value, odd ones too.
    pub width: u32,
    /// Height in pixels. Any positive value, odd ones too.
    pub height: u32,
    /// Bytes between rows.
    pub stride: usize,
    /// Order of the bytes.
    pub format: PackedFormat,
}

/// Why a buffer could not be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The buffer is shorter than its size and stride say. The client declared it wrongly: drop the frame.
    #[error("the buffer holds {have} bytes, but {width}x{height} at stride {stride} needs {need}")]
    ShortBuffer {
        /// Bytes present.
        have: usize,
        /// Bytes that the declared shape needs.
        need: usize,
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// Declared bytes between rows.
        stride: usize,
    },
    /// The conversion refused the shape. A bug of ours: drop the frame and report it.
    #[error("conversion refused: {0}")]
    Refused(String),
}

/// Converts `image` into `picture`, with nearest-neighbour scaling that fills the picture when the sizes differ.
///
/// A difference of one pixel (an odd window in an even picture) is cropped, not scaled.
///
/// # Errors
/// [`ConvertError`]; the picture's content is then undefined.
pub fn convert_into(image: PackedImage<'_>, picture: &mut Picture) -> Result<(), ConvertError> {
    check_shape(image)?;
    let size = picture.size();
    let (width, height) = (size.width(), size.height());
    if image.width & !1 == width && image.height & !1 == height {
        return convert_rows(image, picture);
    }
    let scaled = scale_nearest(image, width, height);
    let image = PackedImage { bytes: &scaled, width, height, stride: width as usize * 4, format: image.format };
    convert_rows(image, picture)
}

fn check_shape(image: PackedImage<'_>) -> Result<(), ConvertError> {
    let row = image.width as usize * 4;
    let need = image.stride.saturating_mul((image.height as usize).saturating_sub(1)).saturating_add(row);
    if image.width == 0 || image.height == 0 || image.stride < row || image.bytes.len() < need {
        return Err(ConvertError::ShortBuffer {
            have: image.bytes.len(),
            need,
            width: image.width,
            height: image.height,
            stride: image.stride,
        });
    }
    Ok(())
}

fn convert_rows(image: PackedImage<'_>, picture: &mut Picture) -> Result<(), ConvertError> {
    let size = picture.size();
    let (stride_y, stride_uv) = (picture.stride_y(), picture.stride_uv());
    let matrix = match picture.matrix {
        ColorMatrix::Bt601 => YuvStandardMatrix::Bt601,
        ColorMatrix::Bt709 => YuvStandardMatrix::Bt709,
    };
    let (y, u, v) = picture.planes_mut();
    let mut planar = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: stride_y as u32,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: stride_uv as u32,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: stride_uv as u32,
        width: size.width(),
        height: size.height(),
    };
    let convert = match image.format {
        PackedFormat::Bgrx => bgra_to_yuv420,
        PackedFormat::Rgbx => rgba_to_yuv420,
    };
    // The converter wants whole rows: give it the last row's padding only where the buffer has it.
    let rows = &image.bytes[..image.bytes.len().min(image.stride * size.height() as usize)];
    convert(&mut planar, rows, image.stride as u32, YuvRange::Limited, matrix, YuvConversionMode::Fast)
        .map_err(|error| ConvertError::Refused(error.to_string()))
}

fn scale_nearest(image: PackedImage<'_>, width: u32, height: u32) -> Vec<u8> {
    let mut scaled = Vec::with_capacity(width as usize * height as usize * 4);
    for y in 0..height {
        let source_y = (u64::from(y) * u64::from(image.height) / u64::from(height)) as usize;
        let row = &image.bytes[source_y * image.stride..][..image.width as usize * 4];
        for x in 0..width {
            let source_x = (u64::from(x) * u64::from(image.width) / u64::from(width)) as usize;
            scaled.extend_from_slice(&row[source_x * 4..source_x * 4 + 4]);
        }
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    fn solid(width: u32, height: u32, pixel: [u8; 4]) -> Vec<u8> {
        pixel.repeat((width * height) as usize)
    }

    fn check(pixel: [u8; 4], format: PackedFormat, source: (u32, u32), expected: (u8, u8, u8)) {
        let bytes = solid(source.0, source.1, pixel);
        let image =
            PackedImage { bytes: &bytes, width: source.0, height: source.1, stride: source.0 as usize * 4, format };
        let mut picture = Picture::new(Size::new(64, 64).unwrap(), ColorMatrix::Bt709);
        convert_into(image, &mut picture).unwrap();
        let (y, u, v) = picture.planes();
        for (got, want) in [(y[70], expected.0), (u[40], expected.1), (v[40], expected.2)] {
            assert!(got.abs_diff(want) <= 2, "{pixel:?} {format:?} {source:?}: {got} is not {want}");
        }
    }

    #[test]
    fn colours_are_bt709_limited_range() {
        let red = (63, 102, 240);
        check([0, 0, 255, 0], PackedFormat::Bgrx, (64, 64), red);
        check([255, 0, 0, 0], PackedFormat::Rgbx, (64, 64), red);
        check([255, 255, 255, 0], PackedFormat::Bgrx, (64, 64), (235, 128, 128));
        check([0, 0, 0, 255], PackedFormat::Bgrx, (64, 64), (16, 128, 128));
    }

    #[test]
    fn other_sizes_are_scaled_or_cropped() {
        check([0, 0, 255, 0], PackedFormat::Bgrx, (65, 65), (63, 102, 240));
        check([0, 0, 255, 0], PackedFormat::Bgrx, (32, 20), (63, 102, 240));
        check([0, 0, 255, 0], PackedFormat::Bgrx, (640, 480), (63, 102, 240));
    }

    #[test]
    fn short_buffers_are_refused() {
        let image = PackedImage { bytes: &[0; 100], width: 64, height: 64, stride: 256, format: PackedFormat::Bgrx };
        let mut picture = Picture::new(Size::new(64, 64).unwrap(), ColorMatrix::Bt709);
        assert!(matches!(
            convert_into(image, &mut picture),
            Err(ConvertError::ShortBuffer { have: 100, need: 16_384, .. })
        ));
    }
}
