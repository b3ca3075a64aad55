//! A child process with a log, which never outlives us.
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(20);
const TAIL: usize = 25;

/// A running program, or one that ended and was not yet missed. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts `program`; what it prints is appended to `log`.
    ///
    /// # Errors
    /// The log can't be opened, or the program not be started.
    pub fn start<A: Into<OsString>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        log: PathBuf,
    ) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().with_context(|| format!("opening the log {}", log.display()))?;
        let mut command = Command::new("setpriv");
        // The kernel kills it when we die, in whichever way that happens.
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.args(arguments.into_iter().map(Into::into)).envs(environment);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn(command).with_context(|| {
            format!("starting {name} by setpriv: is util-linux installed, and {} there?", program.display())
        })?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// An error with the end of the log, where it is no longer running.
    ///
    /// # Errors
    /// That one.
    pub fn ensure_running(&mut self) -> Result<()> {
        let ended = self.ended()?;
        ensure!(ended.is_none(), "{} ended{}; {}", self.name, status(ended), self.tail());
        Ok(())
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("asking after {}", self.name))
    }

    pub(crate) fn terminate(&self) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let id = id.with_context(|| format!("{} has no process id", self.name))?;
        kill_process(id, Signal::TERM).with_context(|| format!("sending SIGTERM to {}", self.name))
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(start.elapsed() < limit, "{} still runs after {limit:?}; {}", self.name, self.tail());
            thread::sleep(PAUSE);
        }
    }

    /// Kills it, and waits until it is gone. Nothing happens where it has ended already.
    pub fn kill(&mut self) {
        // Both fail only where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines of the log, for an error.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
        format!("the end of its log {}:\n  {}", self.log.display(), last.join("\n  "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn status(status: Option<ExitStatus>) -> String {
    status.map(|status| format!(" ({status})")).unwrap_or_default()
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a command on a thread that lives as long as this process: the kernel's "parent" is the thread that forked, so a
/// control plane started by one trial's thread would die with it.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                // Nobody waits for the answer any more only where a trial was torn down; then the child is, too.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, received) = mpsc::channel();
    let orders = spawner.lock().unwrap_or_else(PoisonError::into_inner).clone();
    orders.send((command, answer)).ok().context("the thread that starts processes is gone")?;
    Ok(received.recv().context("the thread that starts processes gave no answer")??)
}
