//! The beginning and the end of an output of any length, in bounded memory. Pure.

use std::collections::VecDeque;

/// Room for the line that says how much was cut.
const MARK_BYTES: usize = 80;

/// Of an output that is too long, a quarter of what is kept is its beginning: what came last says more of how it ended.
const HEAD_SHARE: usize = 4;

/// What is kept of an output.
#[derive(Debug)]
pub(crate) struct Kept {
    head: Vec<u8>,
    head_most: usize,
    tail: VecDeque<u8>,
    tail_most: usize,
    cut_bytes: u64,
}

impl Kept {
    /// Keeps so many bytes, the mark included.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.saturating_sub(MARK_BYTES);
        let head_most = most / HEAD_SHARE;
        Self { head: Vec::new(), head_most, tail: VecDeque::new(), tail_most: most - head_most, cut_bytes: 0 }
    }

    /// Takes what was written next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_most - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.tail_most);
        self.tail.drain(..excess);
        self.cut_bytes += excess as u64;
    }

    /// What was kept, and how much was not.
    pub(crate) fn finish(mut self) -> (Vec<u8>, u64) {
        if self.cut_bytes > 0 {
            self.head.extend(format!("\n[... {} bytes were cut here ...]\n", self.cut_bytes).into_bytes());
        }
        self.head.extend(self.tail);
        (self.head, self.cut_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_are_kept_however_it_comes() {
        let most = 1024;
        for length in [0, 1, 943, 944, 945, 1024, 5000, 100_000] {
            let whole: Vec<u8> = (0..length).map(|at: usize| b"0123456789"[at % 10]).collect();
            for step in [1, 7, 300, 64 << 10] {
                let mut kept = Kept::new(most);
                whole.chunks(step).for_each(|bytes| kept.push(bytes));
                let (text, cut) = kept.finish();
                assert!(text.len() <= most, "{length} by {step}: {}", text.len());
                if length <= most - MARK_BYTES {
                    assert_eq!((text.as_slice(), cut), (whole.as_slice(), 0));
                } else {
                    let mark = format!("[... {cut} bytes were cut here ...]");
                    assert!(String::from_utf8_lossy(&text).contains(&mark), "{length} by {step}");
                    assert!(whole.starts_with(&text[..236]) && whole.ends_with(&text[text.len() - 708..]));
                    assert_eq!(cut, (length - 944) as u64);
                }
            }
        }
    }
}
