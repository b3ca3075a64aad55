//! `kubectl` or `helm`, run for one user.
use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsString,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
};

/// A command-line program with the kubeconfig of one user.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

// === impl Tool ===

impl Tool {
    pub(crate) fn new(program: PathBuf, environment: Vec<(OsString, OsString)>) -> Self {
        Self { program, environment }
    }

    /// What it prints.
    ///
    /// # Errors
    /// It can't be run, or it failed; then with all that it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.feed(arguments, "")
    }

    /// What it prints when it is given `input` on its standard input.
    ///
    /// # Errors
    /// It can't be run, or it failed; then with all that it said.
    pub fn feed(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{} {}` failed ({}):\n{printed}{said}",
            self.name(),
            arguments.join(" "),
            output.status
        );
        Ok(printed)
    }

    /// What it says on standard error where it has to fail.
    ///
    /// # Errors
    /// It can't be run, or it did not fail.
    pub fn refused(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input)?;
        if output.status.success() {
            let printed = String::from_utf8_lossy(&output.stdout);
            bail!("`{} {}` was to fail, and did not:\n{printed}", self.name(), arguments.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// All that came of one run, whether it failed or not.
    ///
    /// # Errors
    /// It can't be run.
    pub fn output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let stdin = child.stdin.take();
        thread::scope(|scope| {
            // Beside the reading, or two full pipes wait for each other.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })
        .with_context(|| format!("running {}", self.program.display()))
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}
