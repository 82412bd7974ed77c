//! What kind of archive a file is: by its first bytes, whatever its name says.

use std::io::{self, BufReader, Read, Seek};

use super::Meter;

/// The kinds, for people.
pub(super) const KNOWN: &str = "tar, also compressed by gzip, bzip2, xz or zstd, and zip";

/// Where a tar archive says that it is one.
const USTAR_AT: usize = 257;

/// Largest window in bytes, as a power of two, that a zstd archive may ask for: `zstd --ultra --long=31` needs it.
const ZSTD_WINDOW_LOG: u32 = 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tar,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Zip,
}

impl Kind {
    /// `None` for what is no archive. Reads from the beginning, and goes back to it.
    pub(super) fn of(file: &mut (impl Read + Seek)) -> io::Result<Option<Kind>> {
        let mut head = Vec::with_capacity(512);
        file.by_ref().take(512).read_to_end(&mut head)?;
        file.rewind()?;
        let beginnings: [(&[u8], Kind); 6] = [
            (b"\x1f\x8b", Kind::Gzip),
            (b"BZh", Kind::Bzip2),
            (b"\xfd7zXZ\0", Kind::Xz),
            (b"\x28\xb5\x2f\xfd", Kind::Zstd),
            (b"PK\x03\x04", Kind::Zip),
            (b"PK\x05\x06", Kind::Zip),
        ];
        let found = beginnings.iter().find(|(beginning, _)| head.starts_with(beginning)).map(|(_, kind)| *kind);
        let is_tar = || head.get(USTAR_AT..USTAR_AT + 5) == Some(b"ustar");
        Ok(found.or_else(|| is_tar().then_some(Kind::Tar)))
    }

    /// The tar archive in it.
    pub(super) fn reader(self, from: BufReader<Meter>) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Kind::Tar | Kind::Zip => Box::new(from),
            Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
            Kind::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(from)),
            Kind::Xz => Box::new(lzma_rust2::XzReader::new(from, true)),
            Kind::Zstd => {
                let mut reader = zstd::Decoder::with_buffer(from)?;
                reader.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(reader)
            }
        })
    }
}
