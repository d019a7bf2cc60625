//! A watch on a folder, which must still tell what happens there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask};

use super::{Holder, ensure};

pub(super) struct Watch {
    number: u64,
    folder: PathBuf,
    inotify: Inotify,
    files: u64,
}

impl Watch {
    pub(super) fn set(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        inotify.watches().add(folder, WatchMask::CREATE)?;
        Ok(Self { number: 0, folder: folder.to_owned(), inotify, files: 0 })
    }
}

impl Holder for Watch {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.number = number;
        Ok(())
    }

    fn get(&mut self) -> io::Result<u64> {
        self.files += 1;
        let name = format!("seen-{}-{}", self.number, self.files);
        let path = self.folder.join(&name);
        File::create(&path)?;
        std::fs::remove_file(&path)?;
        let mut buffer = [0; 4096];
        // What has happened is in the queue by now.
        let told = self.inotify.read_events(&mut buffer)?;
        let names: Vec<_> = told.filter_map(|event| event.name.map(|name| name.to_owned())).collect();
        ensure(names == [name.as_str()], &format!("{names:?} was told, not {name}"))?;
        Ok(self.number)
    }
}
