//! Groups of tasks that end together.

use std::{iter, sync::Arc};

use super::sync::{AtomicBool, AtomicUsize, Ordering};

/// The tasks of one server, or of all servers that share their slots.
///
/// A child's tasks also belong to its parent. When a group ends, its children end, too, and no task
/// can begin in any of them. A group changes under the lock of the
/// [`Registry`](super::registry::Registry), and is read without it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    parent: Option<Arc<Self>>,
    is_over: AtomicBool,
    tasks: AtomicUsize,
}

impl Group {
    pub(crate) fn child(parent: &Arc<Self>) -> Self {
        Self {
            parent: Some(Arc::clone(parent)),
            ..Self::default()
        }
    }

    /// Yields this group, its parent, and so on.
    fn family(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |group| group.parent.as_deref())
    }

    pub(crate) fn enter(&self) {
        for group in self.family() {
            group.tasks.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn leave(&self) {
        for group in self.family() {
            group.tasks.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Returns whether this group has ended, or a group that it belongs to.
    pub(crate) fn is_over(&self) -> bool {
        self.family()
            .any(|group| group.is_over.load(Ordering::Acquire))
    }

    /// Returns how many tasks there are, including those that were evicted and have not left yet.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Acquire)
    }
}
