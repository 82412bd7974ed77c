//! The machine-readable strip: two rows of forty square cells at the top of the picture, white = 1, black = 0, most
//! significant bit first.
//!
//! ```text
//! row 0:  1 0  frame:16  toggles:8  application:10  late:4
//! row 1:  0 1  committed:20  since:8  check:8  block: 2 cells, all white when `toggles` is odd
//! ```
//! `frame` counts drawn frames, `toggles` inputs shown, both wrapping. `application` is the time from the newest shown
//! input's receipt to the commit of the frame that first showed it, `committed` this frame's commit by
//! `CLOCK_MONOTONIC`, both in units of 100 microseconds, the first saturating, the second wrapping (104 s). `late` is
//! how late this frame's tick was in milliseconds, `since` how long ago the frame that first showed the newest input was
//! committed, in units of 500 microseconds, both saturating. `check` is a CRC-8 (polynomial 0x07) over the 66 bits before it, so a torn or blurred strip is told from a whole one. A cell is a fortieth of the picture's width.

/// Cells in a row.
pub const COLUMNS: usize = 40;
/// Rows.
pub const ROWS: usize = 2;
/// First column of the block in row 1.
pub const BLOCK_COLUMN: usize = 38;

/// What one frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strip {
    /// Frames drawn so far, wrapping.
    pub frame: u16,
    /// Inputs shown so far, wrapping.
    pub toggles: u8,
    /// Newest shown input: receipt to commit, in units of 100 microseconds, at most 1023.
    pub application_100us: u16,
    /// How late this frame's tick was, in milliseconds, at most 15.
    pub late_ms: u8,
    /// When this frame is committed, in units of 100 microseconds, modulo 2^20.
    pub committed_100us: u32,
    /// From the commit that first showed the newest input to this one, in units of 500 microseconds, at most 255.
    pub since_500us: u8,
}

fn push(cells: &mut Vec<bool>, value: u32, bits: u32) {
    cells.extend((0..bits).rev().map(|bit| (value >> bit) & 1 == 1));
}

/// The number in cells, most significant bit first.
fn value(cells: &[bool]) -> u32 {
    cells.iter().fold(0, |value, &cell| value << 1 | u32::from(cell))
}

fn crc8(bits: impl Iterator<Item = bool>) -> u8 {
    bits.fold(0_u8, |crc, bit| {
        let feedback = (crc >> 7 == 1) != bit;
        (crc << 1) ^ if feedback { 0x07 } else { 0 }
    })
}

impl Strip {
    /// The cells, row after row, true = white.
    #[must_use]
    pub fn cells(&self) -> Vec<bool> {
        let mut cells = Vec::with_capacity(COLUMNS * ROWS);
        push(&mut cells, 0b10, 2);
        push(&mut cells, u32::from(self.frame), 16);
        push(&mut cells, u32::from(self.toggles), 8);
        push(&mut cells, u32::from(self.application_100us.min(1023)), 10);
        push(&mut cells, u32::from(self.late_ms.min(15)), 4);
        push(&mut cells, 0b01, 2);
        push(&mut cells, self.committed_100us & 0xF_FFFF, 20);
        push(&mut cells, u32::from(self.since_500us), 8);
        let check = crc8(cells[2..COLUMNS].iter().chain(&cells[COLUMNS + 2..]).copied());
        push(&mut cells, u32::from(check), 8);
        cells.resize(COLUMNS * ROWS, self.toggles % 2 == 1);
        cells
    }

    /// What cells say; `None` when they are torn, blurred or no strip at all.
    #[must_use]
    pub fn read(cells: &[bool]) -> Option<Strip> {
        if cells.len() != COLUMNS * ROWS {
            return None;
        }
        let (first, second) = cells.split_at(COLUMNS);
        let data = first[2..].iter().chain(&second[2..30]).copied();
        let is_strip = first[..2] == [true, false] && second[..2] == [false, true];
        if !is_strip || u32::from(crc8(data)) != value(&second[30..38]) {
            return None;
        }
        Some(Strip {
            frame: value(&first[2..18]) as u16,
            toggles: value(&first[18..26]) as u8,
            application_100us: value(&first[26..36]) as u16,
            late_ms: value(&first[36..40]) as u8,
            committed_100us: value(&second[2..22]),
            since_500us: value(&second[22..30]) as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_documented_one() {
        let strip = Strip {
            frame: 0x8001,
            toggles: 3,
            application_100us: 5,
            late_ms: 2,
            committed_100us: 0x80001,
            since_500us: 9,
        };
        let text: String = strip.cells().iter().map(|&cell| if cell { '1' } else { '0' }).collect();
        // The decoder's test in `bench/lib/strip.test.ts` holds the same vector.
        assert_eq!(text, "10100000000000000100000011000000010100100110000000000000000001000010011101010111");
        assert_eq!(Strip::read(&strip.cells()), Some(strip));
    }

    #[test]
    fn every_single_error_changes_the_check() {
        let strip = Strip {
            frame: 77,
            toggles: 9,
            application_100us: 80,
            late_ms: 0,
            committed_100us: 123_456,
            since_500us: 0,
        };
        let cells = strip.cells();
        let data: Vec<bool> = cells[2..COLUMNS].iter().chain(&cells[COLUMNS + 2..COLUMNS + 30]).copied().collect();
        let check = crc8(data.iter().copied());
        for index in 0..data.len() {
            let mut wrong = data.clone();
            wrong[index] = !wrong[index];
            assert_ne!(crc8(wrong.into_iter()), check, "bit {index}");
            let mut torn = cells.clone();
            torn[index + 2 + if index < 38 { 0 } else { 2 }] ^= true;
            assert_eq!(Strip::read(&torn), None, "bit {index}");
        }
    }
}
