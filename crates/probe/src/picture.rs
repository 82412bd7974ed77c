//! Draws the probe's picture: a texture that scrolls in four bands at different speeds, the strip, the block.
//!
//! The texture is made once; a frame is one copy a row. So the probe costs the machine well under 1.5 ms a frame at
//! 720p, while the encoder sees motion in nearly all of the picture. The same frame number always gives the same
//! texture.

use crate::strip::{BLOCK_COLUMN, COLUMNS, ROWS, Strip};

/// Bytes of one pixel (B, G, R, unused).
pub const PIXEL_BYTES: usize = 4;
/// How far the texture wanders before it turns back, in pixels. Less repeats sooner than an encoder's search sees
/// through; more costs memory.
const WANDER: usize = 256;
/// Pixels that each band moves in a frame, from top to bottom.
const SPEEDS: [usize; 4] = [2, 5, 3, 7];
/// Rows of cells that the block is high, the strip's row included.
const BLOCK_ROWS: usize = 6;

/// Draws frames of one size.
#[derive(Debug)]
pub struct Painter {
    width: usize,
    height: usize,
    texture: Vec<u8>,
}

impl Painter {
    /// A painter for pictures of this size, in pixels.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Painter {
        Painter { width, height, texture: texture(width + WANDER, height) }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes of one picture.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.width * self.height * PIXEL_BYTES
    }

    /// Side of a cell, in pixels.
    #[must_use]
    pub fn cell(&self) -> usize {
        self.width / COLUMNS
    }

    /// Draws the moving texture of this frame.
    pub fn paint_texture(&self, pixels: &mut [u8], frame: u64) {
        let row_bytes = self.width * PIXEL_BYTES;
        let texture_row_bytes = (self.width + WANDER) * PIXEL_BYTES;
        let rows = pixels.chunks_exact_mut(row_bytes).zip(self.texture.chunks_exact(texture_row_bytes));
        for (y, (row, source)) in rows.enumerate() {
            let band = y * SPEEDS.len() / self.height.max(1);
            let offset = wander(frame, SPEEDS[band]) * PIXEL_BYTES;
            row.copy_from_slice(&source[offset..offset + row_bytes]);
        }
    }

    /// Draws strip and block over the texture.
    pub fn paint_strip(&self, pixels: &mut [u8], strip: &Strip) {
        let cells = strip.cells();
        for (index, &white) in cells.iter().enumerate() {
            self.fill(pixels, index % COLUMNS, index / COLUMNS, white);
        }
        for row in ROWS..=BLOCK_ROWS {
            for column in BLOCK_COLUMN..COLUMNS {
                self.fill(pixels, column, row, strip.toggles % 2 == 1);
            }
        }
    }

    fn fill(&self, pixels: &mut [u8], column: usize, row: usize, white: bool) {
        let cell = self.cell();
        let value = if white { 0xFF } else { 0x00 };
        for y in row * cell..((row + 1) * cell).min(self.height) {
            let start = (y * self.width + column * cell) * PIXEL_BYTES;
            pixels[start..start + cell * PIXEL_BYTES].fill(value);
        }
    }
}

/// Back and forth between 0 and [`WANDER`].
fn wander(frame: u64, speed: usize) -> usize {
    let phase = usize::try_from(frame % (1 << 32)).unwrap_or(0) * speed % (2 * WANDER);
    if phase < WANDER { phase } else { 2 * WANDER - phase }
}

/// Hash of a lattice point, 0 to 255.
fn lattice(x: usize, y: usize, octave: usize) -> i32 {
    let seed = x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77) ^ octave.wrapping_mul(0xC2B2_AE3D);
    let mixed = (seed ^ (seed >> 15)).wrapping_mul(0x2C1B_3C6D);
    i32::try_from((mixed ^ (mixed >> 12)) & 0xFF).unwrap_or(0)
}

/// Value noise with cells of `1 << shift` pixels, 0 to 255.
fn noise(x: usize, y: usize, shift: usize) -> i32 {
    let (cell_x, cell_y) = (x >> shift, y >> shift);
    let fraction = |v: usize| i32::try_from(v & ((1 << shift) - 1)).unwrap_or(0);
    let (fx, fy) = (fraction(x), fraction(y));
    let mix = |a: i32, b: i32, f: i32| a + (((b - a) * f) >> shift);
    let top = mix(lattice(cell_x, cell_y, shift), lattice(cell_x + 1, cell_y, shift), fx);
    let bottom = mix(lattice(cell_x, cell_y + 1, shift), lattice(cell_x + 1, cell_y + 1, shift), fx);
    mix(top, bottom, fy)
}

/// Something between a landscape and a brick wall: soft shapes, some grain, hard edges; colours of middle strength.
fn texture(width: usize, height: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(width * height * PIXEL_BYTES);
    for y in 0..height {
        for x in 0..width {
            let soft = (noise(x, y, 7) * 4 + noise(x, y, 5) * 2 + noise(x, y, 3)) / 7;
            let grain = noise(x, y, 1) / 10;
            let course = if (y / 48) % 2 == 0 { 0 } else { 40 };
            let edge = y % 48 < 3 || (x + course) % 80 < 3;
            let light = if edge { soft / 3 } else { soft * 3 / 4 + grain + 20 };
            let hue = noise(x, y, 6) - 128;
            let channel = |shift: i32| u8::try_from((light + shift).clamp(8, 247)).unwrap_or(128);
            pixels.extend([channel(-hue / 3), channel(hue / 5), channel(hue / 3), 0xFF]);
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_frame_gives_same_picture_and_next_frame_moves_most_of_it() {
        let painter = Painter::new(640, 360);
        let mut pictures = [vec![0; painter.bytes()], vec![0; painter.bytes()], vec![0; painter.bytes()]];
        for (picture, frame) in pictures.iter_mut().zip([9, 9, 10]) {
            painter.paint_texture(picture, frame);
        }
        let [first, again, next] = pictures;
        assert_eq!(first, again);
        let moved = first.chunks(PIXEL_BYTES).zip(next.chunks(PIXEL_BYTES)).filter(|(a, b)| a != b).count();
        assert!(moved * 10 > 640 * 360 * 6, "{moved} pixels moved");
    }

    #[test]
    fn strip_cells_are_where_the_decoder_looks() {
        let painter = Painter::new(1280, 720);
        let strip = Strip { frame: 0xA5A5, toggles: 1, ..Strip::default() };
        let mut picture = vec![0; painter.bytes()];
        painter.paint_texture(&mut picture, 0);
        painter.paint_strip(&mut picture, &strip);
        for (index, &white) in strip.cells().iter().enumerate() {
            let (x, y) = (index % COLUMNS * 32 + 16, index / COLUMNS * 32 + 16);
            assert_eq!(picture[(y * 1280 + x) * PIXEL_BYTES], if white { 255 } else { 0 }, "cell {index}");
        }
    }
}
