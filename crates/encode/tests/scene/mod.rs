//! Pictures to encode: a detailed texture that moves, with still text-like detail over it.

use std::time::Instant;

use media::{ColorMatrix, Frame, PicturePool, Size};

/// Draws frames of a scene into pooled pictures.
pub(crate) struct Scene {
    pool: PicturePool,
    size: Size,
    matrix: ColorMatrix,
}

impl Scene {
    pub(crate) fn new(size: Size, matrix: ColorMatrix) -> Scene {
        Scene { pool: PicturePool::default(), size, matrix }
    }

    /// The frame at this position of the movement. Equal positions give equal pictures.
    pub(crate) fn frame(&self, position: u32) -> Frame {
        let mut picture = self.pool.take(self.size, self.matrix);
        let (stride_y, stride_uv) = (picture.stride_y(), picture.stride_uv());
        let (width, height) = (self.size.width(), self.size.height());
        let (y, u, v) = picture.planes_mut();
        for (row, line) in (0..height).zip(y.chunks_mut(stride_y)) {
            for (column, pixel) in (0..width).zip(&mut line[..width as usize]) {
                *pixel = luma(column, row, width, height, position);
            }
        }
        let rows = u.chunks_mut(stride_uv).zip(v.chunks_mut(stride_uv));
        for (row, (u, v)) in (0..height / 2).zip(rows) {
            for (column, (u, v)) in (0..width / 2).zip(u.iter_mut().zip(v)) {
                *u = 128 + (((column + position) / 16) % 32) as u8;
                *v = 128 - ((row / 16) % 32) as u8;
            }
        }
        let now = Instant::now();
        Frame { picture, committed: now, captured: now, input: None }
    }
}

fn luma(x: u32, y: u32, width: u32, height: u32, position: u32) -> u8 {
    if y < height / 8 && x < width / 2 {
        return glyphs(x, y);
    }
    let (x, y) = (x + 3 * position, y + 2 * position);
    let coarse = hash(x / 32, y / 32) % 80;
    let middle = hash(x / 8 + 1000, y / 8) % 50;
    let fine = hash(x / 2 + 5000, y / 2) % 20;
    (40 + coarse + middle + fine) as u8
}

/// Strokes one and two pixels wide, black on white.
fn glyphs(x: u32, y: u32) -> u8 {
    let (cell, inside) = ((x / 8, y / 12), (x % 8, y % 12));
    let shape = hash(cell.0, cell.1 + 77);
    let stroke = (inside.0 == 2 && shape & 1 != 0)
        || (inside.0 == 5 && shape & 2 != 0)
        || (inside.1 == 3 && shape & 4 != 0)
        || (inside.1 == 8 && shape & 8 != 0);
    if stroke { 20 } else { 230 }
}

fn hash(x: u32, y: u32) -> u32 {
    let mut value = x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77);
    value ^= value >> 15;
    value = value.wrapping_mul(0x2C1B_3C6D);
    value ^ (value >> 13)
}
