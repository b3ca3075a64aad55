//! The real `opportune`, as a process.
use crate::{ControlPlane, Samples, assets, process::Process};
use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(5);

/// How to start `opportune`.
#[derive(Debug, Clone)]
pub struct ProgramBuilder {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
}

/// A running `opportune`, killed when dropped.
#[derive(Debug)]
pub struct Program {
    process: Process,
}

// === impl ProgramBuilder ===

impl ProgramBuilder {
    /// Further arguments.
    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// A variable of its environment, besides those of the tests.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// It was not built.
    pub fn start(self) -> Result<Program> {
        let binary = binary()?;
        let process = Process::start("opportune", &binary, self.arguments, self.environment, self.log)?;
        Ok(Program { process })
    }

    /// Starts it, and waits until the `/readyz` of its admin address says 200.
    ///
    /// # Errors
    /// It was not built, ended, or is not ready within `limit`: then with the end of its log.
    pub fn start_ready(self, admin: SocketAddr, limit: Duration) -> Result<Program> {
        let mut program = self.start()?;
        program.wait_until_ready(admin, limit)?;
        Ok(program)
    }
}

// === impl Program ===

impl Program {
    /// `opportune` for the user of this kubeconfig, with these arguments. Its log lies in the control plane's folder.
    pub fn against<A: Into<OsString>>(
        plane: &ControlPlane,
        kubeconfig: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> ProgramBuilder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        ProgramBuilder {
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: vec![("KUBECONFIG".into(), kubeconfig.into())],
            log: plane.directory().join(format!("opportune-{number}.log")),
        }
    }

    /// Waits until the `/readyz` of this admin address says 200.
    ///
    /// # Errors
    /// It ended, or is not ready within `limit`: then with the end of its log.
    pub fn wait_until_ready(&mut self, admin: SocketAddr, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            self.process.ensure_running()?;
            let answer = get(admin, "/readyz");
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            if start.elapsed() > limit {
                let answer = match answer {
                    Ok((status, body)) => format!("{status} {}", body.trim()),
                    Err(error) => format!("{error:#}"),
                };
                bail!("opportune is not ready after {limit:?} ({answer}); {}", self.process.tail());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All that it printed so far.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn log(&self) -> Result<String> {
        let path = self.process.log();
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to end (SIGTERM), and waits for that.
    ///
    /// # Errors
    /// It still runs after `limit`: then with the end of its log.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.terminate()?;
        self.process.wait(limit)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It still runs after `limit`: then with the end of its log.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// The memory that it holds, in KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn rss_kib(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that it held at once, in KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_kib(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let size = line.and_then(|line| line.split_ascii_whitespace().next());
        size.context("the process has ended, and holds no memory")?.parse().context("reading its memory")
    }

    /// The time that it spent on processors, in steps of 10 ms.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(self.id())
    }

    /// Its figures, from this admin address.
    ///
    /// # Errors
    /// It does not answer, or not with 200.
    pub fn metrics(&self, admin: SocketAddr) -> Result<Samples> {
        let (status, body) = get(admin, "/metrics")?;
        ensure!(status == 200, "http://{admin}/metrics answers {status}: {body}");
        Ok(Samples::parse(&body))
    }

    /// The status and the body of a page of this admin address.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, admin: SocketAddr, path: &str) -> Result<(u16, String)> {
        get(admin, path)
    }
}

/// The time that a process spent on processors, in steps of 10 ms.
///
/// # Errors
/// It has ended.
pub fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Its name, in parentheses, may hold anything; 11 fields after the state come utime and stime.
    let (_, fields) = stat.rsplit_once(") ").context("reading its time")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The `opportune` that was built last, or the one that `OPPORTUNE_BIN` names.
///
/// # Errors
/// It was not built.
pub fn binary() -> Result<PathBuf> {
    let repository = assets::repository()?;
    if let Some(named) = std::env::var_os("OPPORTUNE_BIN") {
        // cargo runs tests in the folder of their crate, so that a relative path means the repository.
        let path = repository.join(named);
        ensure!(path.is_file(), "OPPORTUNE_BIN names {}, which is no file", path.display());
        return Ok(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = repository.join(target);
    ["release", "debug"]
        .into_iter()
        .filter_map(|profile| {
            let path = target.join(profile).join("opportune");
            Some((fs::metadata(&path).ok()?.modified().ok()?, path))
        })
        .max()
        .map(|(_, path)| path)
        .with_context(|| {
            format!("no opportune in {}: build it by `make build`, or set OPPORTUNE_BIN", target.display())
        })
}

/// HTTP/1.0, so that the answer is over when the connection is.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let reading = || format!("reading http://{address}{path}");
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).with_context(reading)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").with_context(reading)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(reading)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(reading)?;
    let status = head.split_ascii_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(reading)?, body.to_owned()))
}
