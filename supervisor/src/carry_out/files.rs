//! The files that belong to a service's images: which, where, and when they are captured and put back.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use engine::capture::{
    self, Baseline, Captured, Index, Parent, Preparation, PutBack, Timestamp, Tree, mapped_writable,
};
use engine::checkpoint::WhileFrozen;
use engine::freeze::Cgroup;
use engine::images::Prepared;
use engine::runtime::{Folders, ROOT_TREE, Root};

use super::{Shared, blocking, lock};
use crate::assemble::Parts;

/// A capture that is ready to be done under the freeze.
pub(super) struct Ready {
    preparation: Option<Preparation>,
    members: Vec<Cgroup>,
    /// Keeps the image before this one in place, whose contents may be taken over.
    parent: Option<Prepared>,
}

/// Where a capture under the freeze leaves what it has.
pub(super) type Slot = Arc<Mutex<Option<Captured>>>;

impl Ready {
    /// Opens everything, and copies ahead what can be, while the service still runs.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        out_dir: &Path,
        members: Vec<Cgroup>,
    ) -> engine::Result<Self> {
        let parts = shared.parts();
        let folders = parts.runtime.folders().await?;
        let baseline = shared.baseline(&parts, &folders).await?;
        let trees = trees(&parts, &folders, baseline);
        if trees.is_empty() {
            return Ok(Self { preparation: None, members, parent: None });
        }
        let (store, name, out_dir) = (shared.node.store.clone(), shared.name.clone(), out_dir.to_owned());
        blocking(move || {
            let parent = store.newest_hot(&name)?;
            let index = parent.as_ref().and_then(|p| Index::read(p.files_dir()).ok());
            let recalled = match (&parent, &index) {
                (Some(parent), Some(index)) => Some(Parent { index, blobs_dir: parent.files_dir() }),
                _ => None,
            };
            let mut preparation = Preparation::open(&trees, recalled, &out_dir)?;
            preparation.copy_ahead(&mapped(&members))?;
            Ok(Self { preparation: Some(preparation), members, parent })
        })
        .await
    }

    /// What is to be done under the freeze, and where it will be found afterwards.
    pub(super) fn split(self) -> (WhileFrozen, Slot, Option<Prepared>) {
        let slot = Slot::default();
        let Self { preparation, members, parent } = self;
        let found = Arc::clone(&slot);
        let capture = preparation.map(|preparation| -> Box<dyn FnOnce() -> engine::Result<()> + Send> {
            Box::new(move || {
                *lock(&found) = Some(preparation.capture(&mapped(&members))?);
                Ok(())
            })
        });
        (capture, slot, parent)
    }
}

impl Shared {
    /// When the container's root was as it came: what has not been touched since need not be copied.
    async fn baseline(&self, parts: &Parts, folders: &Folders) -> engine::Result<Option<Timestamp>> {
        let is_whole = |(_, folders): &(String, &Folders)| matches!(folders.root, Some(Root::Whole(_)));
        if !parts.rootfs || !by_member(folders).iter().any(is_whole) {
            return Ok(None);
        }
        let (journal, name) = (self.node.journal.clone(), self.name.clone());
        blocking(move || journal.baseline(&name, Timestamp::now())).await.map(Some)
    }

    /// To be called before the first start: what is in the container's root by then is its base.
    pub(super) async fn note_baseline(&self) -> engine::Result<()> {
        let parts = self.parts();
        let folders = parts.runtime.folders().await?;
        self.baseline(&parts, &folders).await.map(drop)
    }
}

/// Brings the files to the image's instant, if it has any.
pub(super) fn put_back(
    parts: &Parts,
    folders: &Folders,
    prepared: &Prepared,
    aside: &Path,
) -> engine::Result<Option<PutBack>> {
    if !prepared.files_dir().join(capture::INDEX_NAME).exists() {
        return Ok(None);
    }
    let index = Index::read(prepared.files_dir())?;
    let trees = trees(parts, folders, None);
    match capture::put_back(&index, prepared.files_dir(), &trees, aside) {
        Ok(put_back) => Ok(Some(put_back)),
        Err(error) => {
            // Not half the image's files and half the present ones.
            capture::undo_pending(aside)?;
            Err(error)
        }
    }
}

/// Roots first, then what belongs to the image by itself, then what is declared.
fn trees(parts: &Parts, folders: &Folders, baseline: Option<Timestamp>) -> Vec<Tree> {
    let tree =
        |name: String, path: &Path, base| Tree { name, path: path.to_owned(), exclude: Vec::new(), base };
    let members = by_member(folders);
    let roots = members
        .iter()
        .filter_map(|(name, folders)| Some((format!("{name}{ROOT_TREE}"), folders.root.as_ref()?)));
    let root = |(name, root): (String, &Root)| match root {
        Root::Whole(path) => tree(name, path, baseline.map(|taken_at| Baseline { taken_at })),
        Root::Changes(path) => tree(name, path, None),
    };
    let mut trees: Vec<_> = roots.filter(|_| parts.rootfs).map(root).collect();
    let declared = parts.volumes.iter().flat_map(|path| {
        let mounts = members.iter().flat_map(|(_, folders)| &folders.mounts);
        let outside: Vec<_> =
            mounts.filter(|(inside, _)| inside == path).map(|(_, outside)| outside).collect();
        if outside.is_empty() { vec![path] } else { outside }
    });
    let mut known = HashSet::new();
    let volumes = members.iter().flat_map(|(_, folders)| &folders.volumes).chain(declared);
    let volumes = volumes.filter(|path| known.insert(*path));
    trees.extend(volumes.map(|path| tree(path.display().to_string(), path, None)));
    trees
}

/// Those of a service, or of each member of a group, with what their trees' names begin with.
fn by_member(folders: &Folders) -> Vec<(String, &Folders)> {
    match folders.members.as_slice() {
        [] => vec![(String::new(), folders)],
        members => members.iter().map(|(name, folders)| (format!("{name}/"), folders)).collect(),
    }
}

/// Files that the service may write to without any trace in their time stamps.
fn mapped(cgroups: &[Cgroup]) -> HashSet<u64> {
    let members = cgroups.iter().flat_map(Cgroup::members);
    // A member that ends while it is looked at maps nothing any more.
    members.filter_map(|pid| mapped_writable(pid).ok()).flatten().collect()
}
