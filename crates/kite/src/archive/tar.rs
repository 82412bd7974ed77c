//! Tar archives.

use std::io::Read;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use tar::{Archive, EntryType};

use super::place::{Executable, Place};

pub(super) fn unpack(archive: Box<dyn Read>, place: &mut Place) -> anyhow::Result<()> {
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let shown = name.display();
        let link = || -> anyhow::Result<_> {
            Ok(entry.link_name()?.with_context(|| format!("{shown} is a link to nothing"))?.into_owned())
        };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = Executable::of_mode(&name, entry.header().mode()?)?;
                let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.header().mtime()?);
                place.file(&name, executable, modified, &mut entry)?;
            }
            EntryType::Directory => place.directory(&name)?,
            EntryType::Symlink => place.symlink(&name, &link()?)?,
            EntryType::Link => place.hard_link(&name, &link()?)?,
            EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {}
            EntryType::Char | EntryType::Block => bail!("{shown} is a device node, which has no place in a package"),
            EntryType::Fifo => bail!("{shown} is a pipe, which has no place in a package"),
            other => bail!("{shown} is of a kind that is not known ({other:?})"),
        }
    }
    Ok(())
}
