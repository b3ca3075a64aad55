//! What a trial is, and how it is run.
use anyhow::Result;
use libtest_mimic::{Failed, Trial};
use opportune_e2e::{ControlPlane, KeptLogs, Options};
use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Instant,
};
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, SemaphorePermit},
};

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
    /// The shared control plane, and no other trial at work: its load would be in the way.
    Exclusive(fn(Cluster) -> Running),
    /// Nothing: it starts a control plane of its own, beside other trials.
    Own(fn() -> Running),
    /// The same, for one that takes a minute or more: it begins before all others.
    Patient(fn() -> Running),
    /// A control plane of its own, and no other trial at work.
    Alone(fn() -> Running),
}

/// The table of a theme: `trials![shared NAME, exclusive NAME, own NAME, patient NAME, alone NAME]`, each the name of an `async fn`
/// that gives `anyhow::Result<()>` and takes a [`Cluster`], where it needs one.
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
    (@body patient $name:ident) => { $crate::trial::Body::Patient(|| Box::pin($name())) };
    (@body alone $name:ident) => { $crate::trial::Body::Alone(|| Box::pin($name())) };
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
    /// One is held by a trial at work on the shared control plane, ...
    shared: Semaphore,
    /// ... one of these by a trial with a control plane of its own, and all of both by one that runs alone.
    own: Semaphore,
    at_once: u32,
    logs: PathBuf,
}

// === impl Case ===

impl Case {
    /// When it begins: those that take longest first, then those of which few run at once, and at the end those that run alone,
    /// or all others would wait for them in the middle.
    pub fn rank(&self) -> u8 {
        match self.body {
            Body::Patient(_) => 0,
            Body::Own(_) => 1,
            Body::Shared(_) => 2,
            Body::Exclusive(_) | Body::Alone(_) => 3,
        }
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
    /// One in which so many trials are at work at once on the shared control plane, and as many with one of their own. Where one
    /// fails, the logs of its control plane are kept in `logs`.
    pub fn new(at_once: u32, logs: PathBuf) -> Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            cluster: OnceLock::new(),
            shared: Semaphore::new(at_once as usize),
            own: Semaphore::new(at_once as usize),
            at_once,
            logs,
        })
    }

    /// Stops the shared control plane, and keeps its logs where a trial failed.
    pub fn finish(&self, has_failed: bool) -> Result<()> {
        if let Some(Ok(cluster)) = self.cluster.get() {
            cluster.stop();
            if has_failed {
                cluster.keep_logs(&self.logs)?;
                println!("the logs of the shared control plane are in {}", self.logs.display());
            }
        }
        Ok(())
    }

    /// Runs one when it is its turn: in the order in which they came.
    fn one(&self, name: &str, body: Body) -> Result<()> {
        self.runtime.block_on(async {
            match body {
                Body::Shared(body) => {
                    let _place = self.shared.acquire().await?;
                    timed(name, body(self.cluster()?)).await
                }
                Body::Exclusive(body) => {
                    let _places = self.all_places().await?;
                    timed(name, body(self.cluster()?)).await
                }
                Body::Own(body) | Body::Patient(body) => {
                    let _place = self.own.acquire().await?;
                    self.on_its_own(name, body()).await
                }
                Body::Alone(body) => {
                    let _places = self.all_places().await?;
                    self.on_its_own(name, body()).await
                }
            }
        })
    }

    async fn on_its_own(&self, name: &str, body: Running) -> Result<()> {
        let logs = KeptLogs::new(self.logs.join(name));
        let result = timed(name, body).await;
        if result.is_err() {
            logs.keep();
        }
        result
    }

    async fn all_places(&self) -> Result<[SemaphorePermit<'_>; 2]> {
        Ok([self.own.acquire_many(self.at_once).await?, self.shared.acquire_many(self.at_once).await?])
    }

    /// Started by the first trial that asks, so that a run of `own` trials alone starts none.
    fn cluster(&self) -> Result<Cluster> {
        let start =
            || ControlPlane::start(Options::default()).map(Arc::new).map_err(|error| format!("{error:#}"));
        self.cluster.get_or_init(start).clone().map_err(anyhow::Error::msg)
    }
}

/// Says how long it took, from when it was its turn.
async fn timed(name: &str, body: Running) -> Result<()> {
    let start = Instant::now();
    let result = body.await;
    println!("    {name}: {:.1} s", start.elapsed().as_secs_f32());
    result
}
