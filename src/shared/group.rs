//! Tasks that end together.

use std::{iter, sync::Arc};

use super::sync::{AtomicBool, AtomicUsize, Ordering};

/// The tasks of one server, or of all servers that share their slots.
///
/// A child's tasks belong to its parent, too. When a group ends, so do its children, and what
/// would begin in them. It changes under the lock of the [`Registry`](super::Registry), and is
/// read without.
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

    /// Yields this group, and those that it belongs to.
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

    /// Whether this group has ended, or one that it belongs to.
    pub(crate) fn is_over(&self) -> bool {
        self.family()
            .any(|group| group.is_over.load(Ordering::Acquire))
    }

    /// Returns how many tasks there are, those that were evicted and have not left yet among
    /// them.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Acquire)
    }
}
