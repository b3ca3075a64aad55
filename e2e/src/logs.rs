//! The logs of control planes that are gone by the time that somebody wants to read them.
use std::{cell::RefCell, fs, path::PathBuf};

thread_local! {
    static FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// While this lives, each control plane that is dropped on this thread leaves its logs. They are removed with it, unless
/// [`KeptLogs::keep`] is called, or the thread panics.
#[derive(Debug)]
#[must_use]
pub struct KeptLogs {
    folder: PathBuf,
    is_wanted: bool,
}

/// Where a control plane that is dropped now leaves its logs.
pub(crate) fn folder() -> Option<PathBuf> {
    FOLDER.with_borrow(Clone::clone)
}

// === impl KeptLogs ===

impl KeptLogs {
    /// In this folder, which is made where there is something to keep.
    pub fn new(folder: PathBuf) -> Self {
        FOLDER.set(Some(folder.clone()));
        Self { folder, is_wanted: false }
    }

    /// They are wanted.
    pub fn keep(mut self) {
        self.is_wanted = true;
    }
}

impl Drop for KeptLogs {
    fn drop(&mut self) {
        FOLDER.set(None);
        if !self.folder.is_dir() {
            return;
        }
        if self.is_wanted || std::thread::panicking() {
            println!("the logs of its control plane are in {}", self.folder.display());
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("{} is not removed: {error}", self.folder.display());
        }
    }
}
