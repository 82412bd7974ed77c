//! Writes a picture as PNG, for support.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use media::{ColorMatrix, Picture};

/// Writes `picture` to `path`, which must not exist.
///
/// # Errors
/// The system's, or the encoder's as such.
pub(crate) fn write(picture: &Picture, path: &Path) -> io::Result<()> {
    let size = picture.size();
    let file = BufWriter::new(File::create_new(path)?);
    let mut encoder = png::Encoder::new(file, size.width(), size.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&to_rgb(picture))?;
    Ok(())
}

/// Limited-range YUV to RGB, pixel by pixel: a screenshot is rare.
fn to_rgb(picture: &Picture) -> Vec<u8> {
    let size = picture.size();
    let (luma, u_plane, v_plane) = picture.planes();
    let (red_v, green_u, green_v, blue_u) = match picture.matrix {
        ColorMatrix::Bt601 => (1.596, 0.392, 0.813, 2.017),
        ColorMatrix::Bt709 => (1.793, 0.213, 0.533, 2.112),
    };
    let mut rgb = Vec::with_capacity(size.pixels() as usize * 3);
    for y in 0..size.height() as usize {
        for x in 0..size.width() as usize {
            let chroma = (y / 2) * picture.stride_uv() + x / 2;
            let bright = (f32::from(luma[y * picture.stride_y() + x]) - 16.0) * 1.164;
            let (u, v) = (f32::from(u_plane[chroma]) - 128.0, f32::from(v_plane[chroma]) - 128.0);
            let channels = [bright + red_v * v, bright - green_u * u - green_v * v, bright + blue_u * u];
            rgb.extend(channels.map(|channel| channel.clamp(0.0, 255.0) as u8));
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::{PackedFormat, PackedImage, Size, convert_into};

    #[test]
    fn colours_survive() {
        let size = Size::new(64, 64).unwrap();
        let mut picture = Picture::new(size, ColorMatrix::Bt709);
        let bytes = [10, 200, 100, 0].repeat(64 * 64);
        let image = PackedImage { bytes: &bytes, width: 64, height: 64, stride: 256, format: PackedFormat::Bgrx };
        convert_into(image, &mut picture).unwrap();
        let rgb = to_rgb(&picture);
        for (got, want) in rgb[..3].iter().zip([100u8, 200, 10]) {
            assert!(got.abs_diff(want) <= 4, "{:?}", &rgb[..3]);
        }
    }

    #[test]
    fn a_file_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let picture = Picture::new(Size::HD, ColorMatrix::Bt709);
        write(&picture, &path).unwrap();
        assert_eq!(&std::fs::read(&path).unwrap()[1..4], b"PNG");
        assert!(write(&picture, &path).is_err());
    }
}
