//! A server under test: a child process on one core, which never outlives us.
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsString,
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// The kernel tells the times of processes in hundredths of a second, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);
const MIB: f64 = 1024.0;

/// A server that answers.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) ca: String,
    pub(super) at_start: Memory,
    child: Child,
}

/// What a process holds, MiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) resident: f64,
    pub(super) peak: f64,
}

/// How to start one.
pub(super) struct Start<'a> {
    pub(super) name: &'static str,
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<OsString>,
    pub(super) core: usize,
    /// For its certificate and its log.
    pub(super) folder: &'a Path,
}

// === impl Server ===

impl Server {
    /// Starts a server on a free port of loopback, and waits until it accepts connections.
    pub(super) fn start(start: &Start<'_>) -> Result<Self> {
        let Start { name, program, folder, .. } = start;
        let address = free_port()?;
        let ca_path = folder.join(format!("{name}.pem"));
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        // The kernel kills it when we die, in whichever way that happens; both programs become the server.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "taskset", "-c", &start.core.to_string()]).arg(program);
        command.args(&start.arguments).arg("--listen").arg(address.to_string()).arg("--ca-out").arg(&ca_path);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("starting setpriv: is util-linux installed?")?;
        let nothing = Memory { resident: 0.0, peak: 0.0 };
        let mut server = Self { name, address, ca: String::new(), at_start: nothing, child };
        server.wait(&ca_path, &log)?;
        server.at_start = server.memory()?;
        Ok(server)
    }

    fn wait(&mut self, ca_path: &Path, log: &Path) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let said = || fs::read_to_string(log).unwrap_or_default();
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "{} ended before it served:\n{}", self.name, said());
            ensure!(begun.elapsed() < PATIENCE, "{} does not serve:\n{}", self.name, said());
            thread::sleep(PAUSE);
        }
        // The system accepts connections as soon as the port is taken.
        while fs::metadata(ca_path).map_or(true, |file| file.len() == 0) && begun.elapsed() < PATIENCE {
            thread::sleep(PAUSE);
        }
        self.ca = fs::read_to_string(ca_path).with_context(|| format!("the certificate of {}", self.name))?;
        Ok(())
    }

    /// Processor time used so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("{} is gone", self.name))?;
        // After the name, which may hold anything: utime and stime are the twelfth and thirteenth.
        let (_, fields) = text.rsplit_once(") ").with_context(|| format!("reading {path}"))?;
        let ticks: Vec<u32> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(TICK * ticks.iter().sum::<u32>())
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .with_context(|| format!("{} is gone", self.name))?;
        let of = |field: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().next());
            Ok(number.with_context(|| format!("{field} is not told"))?.parse::<f64>()? / MIB)
        };
        Ok(Memory { resident: of("VmRSS:")?, peak: of("VmHWM:")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("taking a free port of loopback")?;
    Ok(listener.local_addr()?)
}
