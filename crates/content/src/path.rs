//! Names of files inside a package: bytes, as Linux has them, of which none leads out of it. Pure.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Longest path in bytes, as Linux' `PATH_MAX` with room for where the package lies.
const MAX_PATH_BYTES: usize = 3072;

/// Longest name in bytes, as Linux' `NAME_MAX`.
const MAX_NAME_BYTES: usize = 255;

/// Deepest path, in names. More serves no game and makes walks dear.
const MAX_NAMES: usize = 128;

/// A path relative to a package's root: names joined by `/`, none of them empty, `.` or `..`. Any other bytes are allowed, also
/// such as are no UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct TreePath(Vec<u8>);

/// Why bytes are no path inside a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than Linux can open.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes or deeper than {MAX_NAMES} directories: shorten it")]
    TooLong,
    /// A name is longer than a file system keeps.
    #[error("a name in the path is longer than {MAX_NAME_BYTES} bytes: shorten it")]
    NameTooLong,
    /// Empty, absolute, or with an empty name, `.`, `..` or a zero byte in it.
    #[error("the path is not plain: it must be relative, without empty names, `.`, `..` and zero bytes")]
    NotPlain,
}

impl TreePath {
    /// Checks the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<TreePath, PathError> {
        let bytes = bytes.into();
        if bytes.len() > MAX_PATH_BYTES || bytes.iter().filter(|&&byte| byte == b'/').count() >= MAX_NAMES {
            return Err(PathError::TooLong);
        }
        for name in bytes.split(|&byte| byte == b'/') {
            if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
                return Err(PathError::NotPlain);
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(PathError::NameTooLong);
            }
        }
        Ok(TreePath(bytes))
    }

    /// The name in this directory; `None` is the root.
    pub fn join(directory: Option<&TreePath>, name: &[u8]) -> Result<TreePath, PathError> {
        let mut bytes = directory.map_or_else(Vec::new, |directory| [&directory.0[..], b"/"].concat());
        bytes.extend_from_slice(name);
        TreePath::new(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For the operating system, relative to wherever the package lies.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The directory that it lies in; `None` is the root.
    #[must_use]
    pub fn parent(&self) -> Option<TreePath> {
        let end = self.0.iter().rposition(|&byte| byte == b'/')?;
        Some(TreePath(self.0[..end].to_vec()))
    }

    /// How many directories it lies in.
    pub(crate) fn depth(&self) -> usize {
        self.0.iter().filter(|&&byte| byte == b'/').count()
    }
}

impl TryFrom<Vec<u8>> for TreePath {
    type Error = PathError;

    fn try_from(bytes: Vec<u8>) -> Result<TreePath, PathError> {
        TreePath::new(bytes)
    }
}

impl From<TreePath> for Vec<u8> {
    fn from(path: TreePath) -> Vec<u8> {
        path.0
    }
}

impl fmt::Display for TreePath {
    /// With what is no printable UTF-8 escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?
                } else {
                    write!(f, "{character}")?
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<(), PathError>) {
        assert_eq!(TreePath::new(bytes).map(drop), expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn odd_names_are_kept_and_ways_out_refused() {
        for good in [
            &b"a"[..],
            b"A/a",
            b"-rf",
            b" ",
            b"a\nb",
            b"\xff\xfe/\x80",
            "\u{202e}exe".as_bytes(),
            b"...",
            b"a/..b",
            b"C:\\x",
        ] {
            check(good, Ok(()));
            assert_eq!(TreePath::new(good).unwrap().as_bytes(), good);
        }
        for bad in
            [&b""[..], b"/", b"/etc/passwd", b"a//b", b"a/", b".", b"..", b"../a", b"a/../../b", b"a/./b", b"a\0b"]
        {
            check(bad, Err(PathError::NotPlain));
        }
        check(&[b'a'; 255], Ok(()));
        check(&[b'a'; 256], Err(PathError::NameTooLong));
        check(&b"a/".repeat(127).into_iter().chain(*b"a").collect::<Vec<_>>(), Ok(()));
        check(&b"a/".repeat(128).into_iter().chain(*b"a").collect::<Vec<_>>(), Err(PathError::TooLong));
        check(&[&[b'a'; 250][..], b"/"].concat().repeat(20), Err(PathError::TooLong));
    }

    #[test]
    fn paths_are_written_so_that_a_person_can_read_them() {
        assert_eq!(TreePath::new(*b"a\nb/\xff.dat").unwrap().to_string(), "a\\nb/\\xff.dat");
        let path = TreePath::join(Some(&TreePath::new(*b"data").unwrap()), b"pak0.pk3").unwrap();
        assert_eq!((path.to_string(), path.parent().unwrap().to_string()), ("data/pak0.pk3".into(), "data".into()));
        assert_eq!(path.parent().unwrap().parent(), None);
    }
}
