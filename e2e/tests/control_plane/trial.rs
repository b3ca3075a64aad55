//! What a trial is, and how it is run.
use anyhow::Result;
use libtest_mimic::{Failed, Trial};
use opportune_e2e::{ControlPlane, Options};
use std::{
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Instant,
};
use tokio::runtime::Runtime;

/// The control plane that trials share.
pub type Cluster = Arc<ControlPlane>;
type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// One line of a theme's table.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub body: Body,
}

/// What a trial needs for itself.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// The shared control plane, beside other trials.
    Shared(fn(Cluster) -> Running),
    /// The shared control plane, and nobody else on it.
    Exclusive(fn(Cluster) -> Running),
    /// Nothing: it starts a control plane of its own. One of these at a time.
    Own(fn() -> Running),
}

/// The table of a theme: `trials![shared NAME, exclusive NAME, own NAME]`, each the name of an `async fn` that gives
/// `anyhow::Result<()>` and takes a [`Cluster`], but for `own`, which takes nothing.
macro_rules! trials {
    ($($kind:ident $name:ident),* $(,)?) => {
        /// All trials of this theme.
        pub const TRIALS: &[$crate::trial::Case] = &[$($crate::trial::Case {
            name: stringify!($name),
            body: $crate::trial::trials!(@body $kind $name),
        }),*];
    };
    (@body shared $name:ident) => { $crate::trial::Body::Shared(|cluster| Box::pin($name(cluster))) };
    (@body exclusive $name:ident) => { $crate::trial::Body::Exclusive(|cluster| Box::pin($name(cluster))) };
    (@body own $name:ident) => { $crate::trial::Body::Own(|| Box::pin($name())) };
}

/// The files of this folder that hold trials.
macro_rules! themes {
    ($($theme:ident),* $(,)?) => {
        $(mod $theme;)*
        fn themes() -> Vec<(&'static str, &'static [$crate::trial::Case])> {
            vec![$((stringify!($theme), $theme::TRIALS)),*]
        }
    };
}

pub(crate) use {themes, trials};

/// What all trials of one run share.
pub struct Run {
    runtime: Runtime,
    cluster: OnceLock<Result<Cluster, String>>,
    /// Held for reading by a trial on the shared control plane, for writing by an exclusive one.
    turns: RwLock<()>,
    /// Held by a trial with a control plane of its own: a second one is enough load for two cores.
    own: Mutex<()>,
}

// === impl Case ===

impl Case {
    /// Whether it wants the shared control plane for itself.
    pub fn is_exclusive(&self) -> bool {
        matches!(self.body, Body::Exclusive(_))
    }

    /// As libtest's look-alike takes it. It is run on a thread of its own, where it may block.
    pub fn trial(&self, theme: &str, run: &Arc<Run>) -> Trial {
        let (body, run, name) = (self.body, Arc::clone(run), self.name);
        Trial::test(format!("{theme}::{name}"), move || {
            run.one(name, body).map_err(|error| Failed::from(format!("{error:#}")))
        })
    }
}

// === impl Run ===

impl Run {
    pub fn new() -> Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            cluster: OnceLock::new(),
            turns: RwLock::default(),
            own: Mutex::default(),
        })
    }

    /// Stops the shared control plane, and keeps its logs where a trial failed.
    pub fn finish(&self, has_failed: bool, logs: &Path) -> Result<()> {
        if let Some(Ok(cluster)) = self.cluster.get() {
            cluster.stop();
            if has_failed {
                cluster.keep_logs(logs)?;
                println!("the control plane's logs are in {}", logs.display());
            }
        }
        Ok(())
    }

    fn one(&self, name: &str, body: Body) -> Result<()> {
        // A trial that panicked has broken nothing that these locks guard.
        match body {
            Body::Shared(body) => {
                let cluster = self.cluster()?;
                let _turn = self.turns.read().unwrap_or_else(PoisonError::into_inner);
                self.timed(name, body(cluster))
            }
            Body::Exclusive(body) => {
                let cluster = self.cluster()?;
                let _turn = self.turns.write().unwrap_or_else(PoisonError::into_inner);
                self.timed(name, body(cluster))
            }
            Body::Own(body) => {
                let _turn = self.own.lock().unwrap_or_else(PoisonError::into_inner);
                self.timed(name, body())
            }
        }
    }

    /// Says how long it took, from when it was its turn.
    fn timed(&self, name: &str, body: Running) -> Result<()> {
        let start = Instant::now();
        let result = self.runtime.block_on(body);
        println!("    {name}: {:.1} s", start.elapsed().as_secs_f32());
        result
    }

    /// Started by the first trial that asks, so that a run of `own` trials alone starts none.
    fn cluster(&self) -> Result<Cluster> {
        let start =
            || ControlPlane::start(Options::default()).map(Arc::new).map_err(|error| format!("{error:#}"));
        self.cluster.get_or_init(start).clone().map_err(anyhow::Error::msg)
    }
}
