//! A share of a processor for some processes, as a container's limit gives it: a control group with a quota.
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// How long a quota counts before it is given anew, in microseconds; Kubernetes takes the same.
const PERIOD: u32 = 100_000;

/// A control group, removed when dropped, when its processes have ended.
#[derive(Debug)]
pub struct Share(PathBuf);

// === impl Share ===

impl Share {
    /// So many hundredths of a processor.
    ///
    /// # Errors
    /// There are no control groups with quotas that we may make; mostly, we are not root.
    pub fn new(hundredths: u32) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("opportune-e2e-{}-{number}", std::process::id());
        let quota = PERIOD / 100 * hundredths;
        let (root, file, text) = match Path::new("/sys/fs/cgroup/cpu").is_dir() {
            true => ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", quota.to_string()),
            false => ("/sys/fs/cgroup", "cpu.max", format!("{quota} {PERIOD}")),
        };
        let share = Self(Path::new(root).join(name));
        fs::create_dir(&share.0).with_context(|| format!("making {}: are we root?", share.0.display()))?;
        share.write(file, &text)?;
        Ok(share)
    }

    /// Puts a process into it.
    ///
    /// # Errors
    /// It has ended.
    pub fn give(&self, process: u32) -> Result<()> {
        self.write("cgroup.procs", &process.to_string())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, text).with_context(|| format!("writing {text} to {}", path.display()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
