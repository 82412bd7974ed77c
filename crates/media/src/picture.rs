//! A picture in I420 and the pool that its memory returns to.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Size;

/// Which coefficients turned RGB into YUV. Always limited range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorMatrix {
    /// ITU-R BT.601: what VP8 decoders assume.
    Bt601,
    /// ITU-R BT.709: what H.264 streams of ours signal in their VUI.
    #[default]
    Bt709,
}

/// One I420 picture: 8-bit planes Y, U, V; chroma half size in both directions.
///
/// Rows are [`Picture::stride_y`] and [`Picture::stride_uv`] bytes apart, multiples of 64 and 32,
/// so that SIMD code never crosses into the next row.
#[derive(Clone, Debug)]
pub struct Picture {
    size: Size,
    /// Coefficients of the content.
    pub matrix: ColorMatrix,
    bytes: Vec<u8>,
}

impl Picture {
    /// A black picture.
    #[must_use]
    pub fn new(size: Size, matrix: ColorMatrix) -> Picture {
        let luma = stride_y(size) * size.height() as usize;
        let chroma = stride_y(size) / 2 * (size.height() / 2) as usize;
        let mut bytes = vec![16; luma];
        bytes.resize(luma + 2 * chroma, 128);
        Picture { size, matrix, bytes }
    }

    /// Size in pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes between rows of the Y plane.
    #[must_use]
    pub fn stride_y(&self) -> usize {
        stride_y(self.size)
    }

    /// Bytes between rows of the U and of the V plane.
    #[must_use]
    pub fn stride_uv(&self) -> usize {
        stride_y(self.size) / 2
    }

    /// The planes Y, U, V.
    #[must_use]
    pub fn planes(&self) -> (&[u8], &[u8], &[u8]) {
        let (luma, chroma) = self.bytes.split_at(self.luma_len());
        let (u, v) = chroma.split_at(chroma.len() / 2);
        (luma, u, v)
    }

    /// The planes Y, U, V, to write to.
    pub fn planes_mut(&mut self) -> (&mut [u8], &mut [u8], &mut [u8]) {
        let at = self.luma_len();
        let (luma, chroma) = self.bytes.split_at_mut(at);
        let half = chroma.len() / 2;
        let (u, v) = chroma.split_at_mut(half);
        (luma, u, v)
    }

    fn luma_len(&self) -> usize {
        self.stride_y() * self.size.height() as usize
    }
}

fn stride_y(size: Size) -> usize {
    (size.width() as usize).next_multiple_of(64)
}

/// Recycles the memory of pictures, so that the frame path allocates nothing once warm.
#[derive(Clone, Debug, Default)]
pub struct PicturePool {
    free: Arc<Mutex<Vec<Arc<Picture>>>>,
}

/// Pictures kept for reuse. The pipeline holds at most one being converted, one waiting and one being
/// encoded; a larger pool would only keep old sizes in memory after a resize.
const POOL_LIMIT: usize = 4;

impl PicturePool {
    /// A picture of this size with undefined content.
    #[must_use]
    pub fn take(&self, size: Size, matrix: ColorMatrix) -> PooledPicture {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain(|picture| picture.size == size);
        let mut picture = free.pop().unwrap_or_else(|| Arc::new(Picture::new(size, matrix)));
        drop(free);
        Arc::make_mut(&mut picture).matrix = matrix;
        PooledPicture { picture: Some(picture), pool: self.clone() }
    }
}

/// A picture that goes back to its pool when the last of its clones is dropped.
///
/// A clone shares the memory; writing to a shared picture copies it first.
#[derive(Clone, Debug)]
pub struct PooledPicture {
    /// `Some` until drop.
    picture: Option<Arc<Picture>>,
    pool: PicturePool,
}

impl Deref for PooledPicture {
    type Target = Picture;
    #[expect(clippy::expect_used, reason = "the option is emptied by drop alone, after which no borrow exists")]
    fn deref(&self) -> &Picture {
        self.picture.as_ref().expect("present until drop")
    }
}

impl DerefMut for PooledPicture {
    #[expect(clippy::expect_used, reason = "the option is emptied by drop alone, after which no borrow exists")]
    fn deref_mut(&mut self) -> &mut Picture {
        Arc::make_mut(self.picture.as_mut().expect("present until drop"))
    }
}

impl Drop for PooledPicture {
    fn drop(&mut self) {
        // Two clones dropped at the same instant may both see the other one: the memory is then freed, not recycled.
        if let Some(mut picture) = self.picture.take()
            && Arc::get_mut(&mut picture).is_some()
        {
            let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < POOL_LIMIT {
                free.push(picture);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_have_their_shape() {
        let size = Size::new(130, 66).unwrap();
        let picture = Picture::new(size, ColorMatrix::Bt709);
        let (y, u, v) = picture.planes();
        assert_eq!((picture.stride_y(), picture.stride_uv()), (192, 96));
        assert_eq!((y.len(), u.len(), v.len()), (192 * 66, 96 * 33, 96 * 33));
        assert_eq!((y[0], u[0], v[0]), (16, 128, 128));
    }

    #[test]
    fn pool_reuses_memory_of_the_same_size_only() {
        let pool = PicturePool::default();
        let first = pool.take(Size::HD, ColorMatrix::Bt709);
        let address = first.planes().0.as_ptr();
        drop(first);
        assert_eq!(pool.take(Size::HD, ColorMatrix::Bt709).planes().0.as_ptr(), address);
        drop(pool.take(Size::FULL_HD, ColorMatrix::Bt709));
        assert_eq!(pool.free.lock().unwrap().len(), 1);
    }

    #[test]
    fn clones_share_memory_until_written() {
        let pool = PicturePool::default();
        let mut first = pool.take(Size::HD, ColorMatrix::Bt709);
        first.planes_mut().0[0] = 77;
        let second = first.clone();
        assert_eq!(second.planes().0.as_ptr(), first.planes().0.as_ptr());
        first.planes_mut().0[0] = 99;
        assert_eq!((first.planes().0[0], second.planes().0[0]), (99, 77));
        drop((first, second));
        assert_eq!(pool.free.lock().unwrap().len(), 2);
    }
}
