//! What the game shows, as PNG, for support: looked at, encoded and written on a thread of its own.
//!
//! The picture is shared with the encoder, not copied: a frame that comes meanwhile is drawn into other memory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::command::MAX_PICTURE_BYTES;
use media::{ColorMatrix, Picture, PooledPicture};

/// Luma of black is 16 and of white 235. Up to here nothing can be told apart from black on a screen.
const BLACK: u8 = 20;

/// Why there is no screenshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScreenshotError {
    /// Wait until the game has started.
    #[error("the game has not drawn anything yet")]
    NoFrame,
    /// Wait until it shows something: it may be loading.
    #[error("the picture is black all over: the game may be loading, or draws nothing")]
    Black,
    /// Wait until the one before is done.
    #[error("another screenshot is being made")]
    Busy,
    /// The disk is full, or the system refused a thread.
    #[error("the screenshot cannot be written: {0}")]
    Write(#[from] io::Error),
    /// A fault of ours.
    #[error("the picture cannot be encoded: {0}")]
    Encode(#[from] png::EncodingError),
}

/// One screenshot is made at a time: more would take memory and processors that the stream needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Camera {
    is_busy: Arc<AtomicBool>,
}

impl Camera {
    /// Writes a picture to `path`, which must not exist, and says when it is there. Returns at once.
    ///
    /// # Errors
    /// What is known at once; the rest is said to `done`.
    pub(crate) fn take(
        &self,
        picture: Option<PooledPicture>,
        path: PathBuf,
        done: impl FnOnce(Result<PathBuf, ScreenshotError>) + Send + 'static,
    ) -> Result<(), ScreenshotError> {
        let picture = picture.ok_or(ScreenshotError::NoFrame)?;
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return Err(ScreenshotError::Busy);
        }
        let is_busy = Arc::clone(&self.is_busy);
        let started = std::thread::Builder::new().name("screenshot".into()).spawn(move || {
            let written = write(&picture, &path).map(|()| path);
            drop(picture);
            is_busy.store(false, Ordering::Release);
            done(written);
        });
        if let Err(error) = started {
            self.is_busy.store(false, Ordering::Release);
            return Err(error.into());
        }
        Ok(())
    }
}

/// Writes `picture` to `path`, which must not exist, in a half or a quarter of its size when it would be too large.
fn write(picture: &Picture, path: &Path) -> Result<(), ScreenshotError> {
    if is_black(picture) {
        return Err(ScreenshotError::Black);
    }
    let mut encoded = encode(picture, 1)?;
    for step in [2, 4] {
        if encoded.len() > MAX_PICTURE_BYTES {
            encoded = encode(picture, step)?;
        }
    }
    File::create_new(path)?.write_all(&encoded)?;
    Ok(())
}

fn is_black(picture: &Picture) -> bool {
    let size = picture.size();
    let (luma, _, _) = picture.planes();
    let rows = luma.chunks(picture.stride_y()).take(size.height() as usize);
    rows.flat_map(|row| row.iter().take(size.width() as usize)).all(|bright| *bright <= BLACK)
}

/// As PNG, every `step`th pixel of every `step`th row.
fn encode(picture: &Picture, step: usize) -> Result<Vec<u8>, png::EncodingError> {
    let size = picture.size();
    let edge = |pixels: u32| pixels.div_ceil(u32::try_from(step).unwrap_or(1));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, edge(size.width()), edge(size.height()));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&to_rgb(picture, step))?;
    writer.finish()?;
    Ok(bytes)
}

/// Limited-range YUV to RGB, pixel by pixel: a screenshot is rare.
fn to_rgb(picture: &Picture, step: usize) -> Vec<u8> {
    let size = picture.size();
    let (luma, u_plane, v_plane) = picture.planes();
    let (red_v, green_u, green_v, blue_u) = match picture.matrix {
        ColorMatrix::Bt601 => (1.596, 0.392, 0.813, 2.017),
        ColorMatrix::Bt709 => (1.793, 0.213, 0.533, 2.112),
    };
    let mut rgb = Vec::with_capacity(size.pixels() as usize * 3 / (step * step));
    for y in (0..size.height() as usize).step_by(step) {
        for x in (0..size.width() as usize).step_by(step) {
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
    use media::{PackedFormat, PackedImage, PicturePool, Size, convert_into};

    fn filled(picture: &mut Picture, pixel: impl Fn(usize) -> [u8; 4]) {
        let (width, height) = (picture.size().width() as usize, picture.size().height() as usize);
        let bytes: Vec<u8> = (0..width * height).flat_map(pixel).collect();
        let stride = width * 4;
        let (width, height) = (picture.size().width(), picture.size().height());
        let image = PackedImage { bytes: &bytes, width, height, stride, format: PackedFormat::Bgrx };
        convert_into(image, picture).unwrap();
    }

    #[test]
    fn colours_survive() {
        let size = Size::new(64, 64).unwrap();
        let mut picture = Picture::new(size, ColorMatrix::Bt709);
        filled(&mut picture, |_| [10, 200, 100, 0]);
        let rgb = to_rgb(&picture, 1);
        assert_eq!(rgb.len(), 64 * 64 * 3);
        assert_eq!(to_rgb(&picture, 2).len(), 32 * 32 * 3);
        for (got, want) in rgb[..3].iter().zip([100u8, 200, 10]) {
            assert!(got.abs_diff(want) <= 4, "{:?}", &rgb[..3]);
        }
    }

    #[test]
    fn a_file_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let mut picture = Picture::new(Size::HD, ColorMatrix::Bt709);
        filled(&mut picture, |at| [at as u8; 4]);
        write(&picture, &path).unwrap();
        assert_eq!(&std::fs::read(&path).unwrap()[1..4], b"PNG");
        assert!(matches!(write(&picture, &path), Err(ScreenshotError::Write(_))));
    }

    #[test]
    fn what_shows_nothing_is_no_picture() {
        let dir = tempfile::tempdir().unwrap();
        let black = Picture::new(Size::HD, ColorMatrix::Bt709);
        assert!(matches!(write(&black, &dir.path().join("a.png")), Err(ScreenshotError::Black)));
        assert!(!dir.path().join("a.png").exists());
        let camera = Camera::default();
        let none = camera.take(None, dir.path().join("b.png"), |_| panic!("nothing is made"));
        assert!(matches!(none, Err(ScreenshotError::NoFrame)));
    }

    #[test]
    fn one_at_a_time_and_then_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (camera, pool) = (Camera::default(), PicturePool::default());
        let mut picture = pool.take(Size::HD, ColorMatrix::Bt709);
        filled(&mut picture, |at| [at as u8; 4]);
        for round in 0..3 {
            let (said, heard) = std::sync::mpsc::sync_channel(1);
            let path = dir.path().join(format!("{round}.png"));
            camera.take(Some(picture.clone()), path.clone(), move |done| said.send(done).unwrap()).unwrap();
            let busy = camera.take(Some(picture.clone()), dir.path().join("busy.png"), |_| {});
            assert!(matches!(busy, Err(ScreenshotError::Busy)) || path.exists());
            assert_eq!(heard.recv().unwrap().unwrap(), path);
        }
    }

    #[test]
    fn noise_of_the_largest_size_is_shown_smaller() {
        let mut picture = Picture::new(Size::new(4096, 2304).unwrap(), ColorMatrix::Bt709);
        let mut state = 1_u32;
        let (luma, u_plane, v_plane) = picture.planes_mut();
        for byte in luma.iter_mut().chain(u_plane).chain(v_plane) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let dir = tempfile::tempdir().unwrap();
        write(&picture, &dir.path().join("a.png")).unwrap();
        let bytes = std::fs::read(dir.path().join("a.png")).unwrap();
        assert!(bytes.len() <= MAX_PICTURE_BYTES, "{}", bytes.len());
        assert!(u32::from_be_bytes(bytes[16..20].try_into().unwrap()) < 4096);
    }
}
