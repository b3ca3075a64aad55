//! What a trial is, and how it is run: in order, on one thread, where it may block.
use crate::stage::Stage;
use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(250);

/// One line of a theme's table.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub body: fn(&Stage) -> Result<()>,
}

/// The table of a theme: `trials![NAME, NAME]`, each the name of a `fn(&Stage) -> Result<()>`.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        /// All trials of this theme, in their order.
        pub const TRIALS: &[$crate::trial::Case] =
            &[$($crate::trial::Case { name: stringify!($name), body: $name }),*];
    };
}

/// The files of this folder that hold trials.
macro_rules! themes {
    ($($theme:ident),* $(,)?) => {
        $(mod $theme;)*
        fn themes() -> [(&'static str, &'static [$crate::trial::Case]); [$(stringify!($theme)),*].len()] {
            [$((stringify!($theme), $theme::TRIALS)),*]
        }
    };
}

pub(crate) use {themes, trials};

// === impl Case ===

impl Case {
    /// As libtest's look-alike takes it.
    pub fn trial(&self, theme: &str, stage: &Arc<Stage>) -> Trial {
        let (body, stage, name) = (self.body, Arc::clone(stage), self.name);
        Trial::test(format!("{theme}::{name}"), move || {
            let start = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| body(&stage)));
            println!("{name}: {:.1} s", start.elapsed().as_secs_f32());
            match result {
                Ok(result) => result.map_err(|error| Failed::from(format!("{error:#}"))),
                Err(_) => Err(Failed::from("it panicked, see above")),
            }
        })
    }
}

/// Asks until there is an answer, and gives up after `limit`: then the error says `what` was waited for, and with which error
/// the last question failed, if it did.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let failure = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => String::new(),
            Err(error) => format!("; the last look failed: {error:#}"),
        };
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain for this: {what}{failure}");
        }
        thread::sleep(PAUSE);
    }
}

/// A file that nobody names would hold trials that nobody runs.
pub fn ensure_every_file_is_named(folder: &Path, names: &[&[&str]]) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        ensure!(
            path.is_dir() || names.concat().contains(&name.as_str()),
            "{} is not run: add {name} to `themes!` in {}/main.rs",
            path.display(),
            folder.display()
        );
    }
    Ok(())
}
