//! The bytes between the kernel's FUSE and a server: `linux/fuse.h`, as far as a directory of devices needs it.
//!
//! Parsing is total: what the kernel sends and we do not know becomes [`Operation::Unknown`], what is too short `None`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The version that is spoken. Any kernel since 5.2 speaks it or a later one, and then falls back to this.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;

/// Largest write that the kernel may send; effects and events are far smaller.
const MAX_WRITE: u32 = 4096;

/// The smallest buffer with which the kernel lets a server read.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;

const HEADER_BYTES: usize = 40;
const OUT_HEADER_BYTES: usize = 16;

/// `FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE`: every read and write comes to us, without an offset.
const OPEN_AS_DEVICE: u32 = 1 | 4;
/// Directory entry types.
const DT_DIR: u32 = 4;
const DT_REG: u32 = 8;
/// File types in a mode.
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// `FUSE_NOTIFY_POLL`.
const NOTIFY_POLL: i32 = 1;
/// `FUSE_POLL_SCHEDULE_NOTIFY`.
const SCHEDULE_NOTIFY: u32 = 1;
/// `FUSE_IOCTL_32BIT`.
const IOCTL_32BIT: u32 = 8;

/// The node of the directory itself.
pub(crate) const ROOT: u64 = 1;

/// Who asks, and how to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Init {
        minor: u32,
    },
    Lookup {
        name: &'a OsStr,
    },
    GetAttributes,
    SetAttributes,
    MakeNode {
        name: &'a OsStr,
    },
    Unlink {
        name: &'a OsStr,
    },
    Open,
    Read {
        handle: u64,
        size: usize,
        nonblocking: bool,
    },
    Write {
        handle: u64,
        data: &'a [u8],
    },
    Release {
        handle: u64,
    },
    ReadDirectory {
        offset: u64,
        size: usize,
    },
    Ioctl {
        handle: u64,
        command: u32,
        input: &'a [u8],
        output_size: usize,
        narrow: bool,
    },
    Poll {
        handle: u64,
        kernel_handle: u64,
        notify: bool,
    },
    Interrupt {
        unique: u64,
    },
    FileSystem,
    OpenDirectory,
    /// Answered with success and nothing else.
    Trivial,
    /// Not answered at all.
    Silent,
    Unknown,
}

/// One request.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Header, Operation<'_>)> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let header = Header { unique: long(8)?, node: long(16)?, uid: word(24)?, gid: word(28)? };
    let body = HEADER_BYTES;
    let name = |at: usize| {
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(OsStr::from_bytes(rest.get(..end)?))
    };
    let size = |at: usize| Some(usize::try_from(word(at)?).ok()?.min(1 << 20));
    let nonblocking = |flags: u32| flags & libc::O_NONBLOCK.cast_unsigned() != 0;
    let operation = match word(4)? {
        1 => Operation::Lookup { name: name(body)? },
        // Forget, batch forget.
        2 | 42 => Operation::Silent,
        3 => Operation::GetAttributes,
        4 => Operation::SetAttributes,
        8 => Operation::MakeNode { name: name(body + 16)? },
        10 => Operation::Unlink { name: name(body)? },
        14 => Operation::Open,
        15 => {
            Operation::Read { handle: long(body)?, size: size(body + 16)?, nonblocking: nonblocking(word(body + 32)?) }
        }
        16 => {
            let length = size(body + 16)?;
            Operation::Write { handle: long(body)?, data: bytes.get(body + 40..)?.get(..length)? }
        }
        17 => Operation::FileSystem,
        18 => Operation::Release { handle: long(body)? },
        26 => Operation::Init { minor: word(body + 4)? },
        27 => Operation::OpenDirectory,
        28 => Operation::ReadDirectory { offset: long(body + 8)?, size: size(body + 16)? },
        // Flush, release of the directory, access, destroy.
        25 | 29 | 34 | 38 => Operation::Trivial,
        36 => Operation::Interrupt { unique: long(body)? },
        39 => {
            let length = size(body + 24)?;
            Operation::Ioctl {
                handle: long(body)?,
                narrow: word(body + 8)? & IOCTL_32BIT != 0,
                command: word(body + 12)?,
                input: bytes.get(body + 32..)?.get(..length)?,
                output_size: size(body + 28)?,
            }
        }
        40 => Operation::Poll {
            handle: long(body)?,
            kernel_handle: long(body + 8)?,
            notify: word(body + 16)? & SCHEDULE_NOTIFY != 0,
        },
        _ => Operation::Unknown,
    };
    Some((header, operation))
}

/// A file or the directory, as `stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) node: u64,
    pub(crate) directory: bool,
    /// Seconds.
    pub(crate) modified: u64,
    /// Whoever asks: in a user namespace other ids may have no meaning, and the file could not be opened.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Bytes of an answer, put together.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn attributes(self, of: &Attributes) -> Self {
        let mode = if of.directory { S_IFDIR | 0o755 } else { S_IFREG | 0o666 };
        self.long(of.node)
            .long(0)
            .long(0)
            .long(of.modified)
            .long(of.modified)
            .long(of.modified)
            .word(0)
            .word(0)
            .word(0)
            .word(mode)
            .word(if of.directory { 2 } else { 1 })
            .word(of.uid)
            .word(of.gid)
            .word(0)
            .word(4096)
            .word(0)
    }
}

/// A successful answer around a body.
pub(crate) fn answer(unique: u64, body: &[u8]) -> Vec<u8> {
    message(0, unique, body)
}

/// A refusal.
pub(crate) fn refusal(unique: u64, error: i32) -> Vec<u8> {
    message(-error, unique, &[])
}

/// Tells the kernel that a file that was polled has something now.
pub(crate) fn poll_notification(kernel_handle: u64) -> Vec<u8> {
    message(NOTIFY_POLL, 0, &kernel_handle.to_ne_bytes())
}

fn message(error: i32, unique: u64, body: &[u8]) -> Vec<u8> {
    let length = OUT_HEADER_BYTES + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(body);
    bytes
}

pub(crate) fn init_body(kernel_minor: u32) -> Vec<u8> {
    let minor = kernel_minor.min(MINOR);
    let mut body = Body::default().word(MAJOR).word(minor).word(0).word(0).word(0).word(MAX_WRITE).word(1).0;
    body.resize(64, 0);
    body
}

/// Names and attributes are never kept by the kernel: pads come and go.
pub(crate) fn entry_body(attributes: &Attributes) -> Vec<u8> {
    Body::default().long(attributes.node).long(0).long(0).long(0).word(0).word(0).attributes(attributes).0
}

pub(crate) fn attributes_body(attributes: &Attributes) -> Vec<u8> {
    Body::default().long(0).word(0).word(0).attributes(attributes).0
}

pub(crate) fn open_body(handle: u64, directory: bool) -> Vec<u8> {
    Body::default().long(handle).word(if directory { 0 } else { OPEN_AS_DEVICE }).word(0).0
}

pub(crate) fn write_body(count: usize) -> Vec<u8> {
    Body::default().word(u32::try_from(count).unwrap_or(0)).word(0).0
}

pub(crate) fn ioctl_body(result: i32, output: &[u8]) -> Vec<u8> {
    let mut body = Body::default().word(result.cast_unsigned()).word(0).word(0).word(0).0;
    body.extend(output);
    body
}

pub(crate) fn poll_body(events: i16) -> Vec<u8> {
    Body::default().word(u32::from(events.cast_unsigned())).word(0).0
}

pub(crate) fn file_system_body() -> Vec<u8> {
    let mut body = Body::default().long(0).long(0).long(0).long(0).long(0).word(4096).word(255).word(4096).0;
    body.resize(80, 0);
    body
}

/// Entries of the directory from `offset` on, as many as fit.
pub(crate) fn directory_body(entries: &[(u64, String)], offset: u64, size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, (node, name)) in (1_u64..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
        let length = u32::try_from(name.len()).unwrap_or(0);
        let kind = if *node == ROOT { DT_DIR } else { DT_REG };
        let mut entry = Body::default().long(*node).long(index).word(length).word(kind).0;
        entry.extend(name.as_bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        if body.len() + entry.len() > size {
            break;
        }
        body.extend(entry);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_input_makes_the_parser_fail_hard() {
        let mut bytes = [0_u8; 200];
        for opcode in 0..60_u32 {
            bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
            for length in 0..bytes.len() {
                parse(&bytes[..length]);
            }
            let full = vec![0xFF; 200];
            parse(&full);
        }
    }

    #[test]
    fn sizes_are_the_kernels() {
        let attributes = Attributes { node: 1, directory: true, modified: 1, uid: 0, gid: 0 };
        assert_eq!(init_body(99).len(), 64);
        assert_eq!(attributes_body(&attributes).len(), 104);
        assert_eq!(entry_body(&attributes).len(), 128);
        assert_eq!(file_system_body().len(), 80);
        assert_eq!(open_body(1, false).len(), 16);
        assert_eq!(poll_body(1).len(), 8);
        assert_eq!(poll_notification(1).len(), 24);
    }

    #[test]
    fn a_directory_is_read_in_pieces() {
        let entries = vec![(ROOT, ".".to_owned()), (ROOT, "..".to_owned()), (5, "event0".to_owned())];
        let all = directory_body(&entries, 0, 4096);
        assert_eq!(all.len(), 32 + 32 + 32);
        assert_eq!(directory_body(&entries, 2, 4096), all[64..]);
        assert_eq!(directory_body(&entries, 0, 40), all[..32]);
        assert!(directory_body(&entries, 3, 4096).is_empty());
    }
}
