//! Which files a build has, and what of them the second build changes. Pure: the plan is a function of size and seed.
//!
//! | share | what |
//! |---|---|
//! | 76 % | five packed files of assets, some of which are the same again |
//! | 20 % | files of 1 to 10 MB |
//! | 4 % | files of 1 to 30 kB, like text |

use crate::bytes::{Kind, Piece, mixed};

/// Shares of the packed files among themselves, in thousandths: 1.15 to 0.24 GB of a build of 4 GB.
const PACKED_SHARES: [u64; 5] = [380, 250, 190, 100, 80];

/// One byte of so many is different in the second build.
const DIFFERENT: u64 = 100;

/// Of what is different, how much is by edits of packed files, in hundredths.
const EDITS_OF_HUNDRED: u64 = 60;

/// Lengths of edits, in bytes.
const EDIT: (u64, u64) = (4 << 10, 64 << 10);

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) path: String,
    pub(crate) pieces: Vec<Piece>,
}

impl Planned {
    pub(crate) fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length).sum()
    }

    pub(crate) fn fresh(&self) -> u64 {
        self.pieces.iter().filter(|piece| piece.fresh).map(|piece| piece.length).sum()
    }

    /// Takes `removed` bytes away at `at`, and puts a piece there.
    fn splice(&mut self, at: u64, removed: u64, inserted: Option<Piece>) {
        let mut before = Vec::with_capacity(self.pieces.len() + 2);
        let mut after = Vec::new();
        let mut place = 0;
        for piece in &self.pieces {
            let kept = at.saturating_sub(place).min(piece.length);
            let cut = (at + removed).saturating_sub(place).min(piece.length);
            if kept > 0 {
                before.push(piece.part(0, kept));
            }
            if cut < piece.length {
                after.push(piece.part(cut, piece.length - cut));
            }
            place += piece.length;
        }
        before.extend(inserted);
        before.append(&mut after);
        self.pieces = before;
    }
}

/// Numbers from a seed.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mixed(seed ^ 0x6b69_7465))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Between both, short ones as probable as long ones are rare.
    fn spread(&mut self, least: u64, most: u64) -> u64 {
        let share = self.below(1 << 20) as f64 / (1 << 20) as f64;
        (least as f64 * (most as f64 / least as f64).powf(share)) as u64
    }

    fn piece(&mut self, kind: Kind, length: u64, fresh: bool) -> Piece {
        Piece { kind, seed: self.next(), start: 0, length, fresh }
    }

    /// A kind as packed files have them.
    fn kind(&mut self) -> Kind {
        match self.below(20) {
            0..7 => Kind::Noise,
            7..15 => Kind::Mixed,
            _ => Kind::Text,
        }
    }
}

/// The files of the first build.
pub(crate) fn first(size: u64, numbers: &mut Numbers) -> Vec<Planned> {
    let (mut files, mut assets) = (Vec::new(), Vec::new());
    for (index, share) in PACKED_SHARES.iter().enumerate() {
        let length = size * 76 / 100 * share / 1000;
        files.push(Planned { path: format!("data/pack{index}.pak"), pieces: packed(length, &mut assets, numbers) });
    }
    let mut left = size * 20 / 100;
    while left > 0 {
        files.push(middle(files.len(), &mut left, numbers, false));
    }
    let mut left = size * 4 / 100;
    while left > 0 {
        files.push(small(files.len(), &mut left, numbers, false));
    }
    files
}

/// Assets one after the other; one of seven was packed before, maybe in another file.
fn packed(length: u64, assets: &mut Vec<Piece>, numbers: &mut Numbers) -> Vec<Piece> {
    let (mut pieces, mut left) = (Vec::new(), length);
    while left > 0 {
        let again = !assets.is_empty() && numbers.below(7) == 0;
        let asset = if again {
            assets[numbers.below(assets.len() as u64) as usize]
        } else {
            let (kind, length) = (numbers.kind(), numbers.spread(16 << 10, 4 << 20));
            numbers.piece(kind, length, false)
        };
        if !again {
            assets.push(asset);
        }
        pieces.push(asset.part(0, asset.length.min(left)));
        left = left.saturating_sub(asset.length);
    }
    pieces
}

fn middle(number: usize, left: &mut u64, numbers: &mut Numbers, fresh: bool) -> Planned {
    let length = numbers.spread(1 << 20, 10 << 20).min(*left);
    *left -= length;
    let kind = numbers.kind();
    Planned { path: format!("levels/level{number}.bin"), pieces: vec![numbers.piece(kind, length, fresh)] }
}

fn small(number: usize, left: &mut u64, numbers: &mut Numbers, fresh: bool) -> Planned {
    let length = numbers.spread(1 << 10, 30 << 10).min(*left);
    *left -= length;
    let path = format!("scripts/{:03}/script{number}.txt", number / 100);
    Planned { path, pieces: vec![numbers.piece(Kind::Text, length, fresh)] }
}

/// Makes the second build of the first: edits in packed files, replaced, new and removed other files.
pub(crate) fn second(size: u64, files: &mut Vec<Planned>, numbers: &mut Numbers) {
    let wanted = size / DIFFERENT;
    let mut edits = wanted * EDITS_OF_HUNDRED / 100;
    let mut rest = wanted - edits;
    let largest = files.iter().take(PACKED_SHARES.len()).map(Planned::length).sum();
    while edits > 0 {
        edits -= edit(&mut files[..PACKED_SHARES.len()], largest, edits, numbers);
    }
    let others = PACKED_SHARES.len();
    for _ in 0..(files.len() - others) / 500 {
        let gone = others + numbers.below((files.len() - others) as u64) as usize;
        files.remove(gone);
    }
    // A tenth of the rest is new, one part in two of each kind.
    let (mut new_small, mut new_middle) = (rest / 20, rest / 20);
    rest -= new_small + new_middle;
    while new_middle > 0 {
        files.push(middle(1_000_000 + files.len(), &mut new_middle, numbers, true));
    }
    while new_small > 0 {
        files.push(small(1_000_000 + files.len(), &mut new_small, numbers, true));
    }
    // Half of what is left are small ones, as long as there are any.
    let mut small_left = rest / 2;
    while rest > 0 {
        let chosen = others + numbers.below((files.len() - others) as u64) as usize;
        let file = &mut files[chosen];
        let is_small = file.path.starts_with("scripts/");
        if file.fresh() > 0 || (is_small && small_left == 0) {
            continue;
        }
        // The last one is changed only as far as it is needed.
        let length = file.length().min(rest);
        let kind = if is_small { Kind::Text } else { numbers.kind() };
        file.splice(0, length, Some(numbers.piece(kind, length, true)));
        rest -= length;
        if is_small {
            small_left = small_left.saturating_sub(length);
        }
    }
}

/// One region of a packed file, anywhere: written over, put in, or taken away. Returns how many bytes are new.
fn edit(files: &mut [Planned], all: u64, most: u64, numbers: &mut Numbers) -> u64 {
    let mut place = numbers.below(all);
    let length = (EDIT.0 + numbers.below(EDIT.1 - EDIT.0)).min(most);
    let kind = numbers.kind();
    let what = numbers.below(20);
    for file in files {
        let here = file.length();
        if place >= here {
            place -= here;
            continue;
        }
        let new = numbers.piece(kind, length, true);
        return match what {
            0..12 => {
                file.splice(place, length, Some(new));
                length
            }
            12..17 => {
                file.splice(place, 0, Some(new));
                length
            }
            _ => {
                file.splice(place, length, None);
                0
            }
        };
    }
    0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SIZE: u64 = 256 << 20;

    fn builds() -> (Vec<Planned>, Vec<Planned>) {
        let mut numbers = Numbers::new(1);
        let old = first(SIZE, &mut numbers);
        let mut new = old.clone();
        second(SIZE, &mut new, &mut numbers);
        (old, new)
    }

    #[test]
    fn a_build_is_as_large_as_asked() {
        let (old, _) = builds();
        let bytes: u64 = old.iter().map(Planned::length).sum();
        assert!(bytes.abs_diff(SIZE) < 1000, "{bytes}");
        assert!(old.iter().all(|file| file.fresh() == 0));
        assert!(old.len() > 1000, "{}", old.len());
    }

    #[test]
    fn builds_differ_by_one_percent() {
        let (old, new) = builds();
        let fresh: u64 = new.iter().map(Planned::fresh).sum();
        // An edit may write over an earlier one.
        assert!(fresh <= SIZE / 100 && fresh > SIZE / 100 * 95 / 100, "{fresh}");
        let (before, after): (HashSet<_>, HashSet<_>) =
            (old.iter().map(|file| &file.path).collect(), new.iter().map(|file| &file.path).collect());
        assert_eq!(after.len(), new.len(), "names are unique");
        assert!(after.difference(&before).count() > 0 && before.difference(&after).count() > 0);
    }

    #[test]
    fn splices_keep_what_is_around() {
        let piece = |seed, length| Piece { kind: Kind::Noise, seed, start: 0, length, fresh: false };
        let write = |file: &Planned| {
            let mut bytes = Vec::new();
            file.pieces.iter().for_each(|piece| piece.write(&mut bytes));
            bytes
        };
        let old = Planned { path: String::new(), pieces: vec![piece(1, 10), piece(2, 20), piece(3, 5)] };
        for (at, removed, inserted) in
            [(0, 0, 7), (0, 35, 3), (5, 10, 0), (10, 20, 20), (34, 1, 1), (35, 0, 2), (30, 50, 1)]
        {
            let mut new = old.clone();
            new.splice(at, removed, (inserted > 0).then(|| piece(9, inserted)));
            let (was, is) = (write(&old), write(&new));
            let end = (at + removed).min(35) as usize;
            assert_eq!(is[..at as usize], was[..at as usize]);
            assert_eq!(is[at as usize + inserted as usize..], was[end..]);
        }
    }
}
