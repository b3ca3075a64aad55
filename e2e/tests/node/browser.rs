//! A real browser: Chromium without a window, driven through chromedriver (W3C WebDriver).
use crate::trial::until;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use opportune_e2e::{Process, free_address};
use serde_json::{Value, json};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const PAGE: Duration = Duration::from_secs(60);
/// What WebDriver calls an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with cookies of its own, closed when dropped.
pub struct Browser {
    address: SocketAddr,
    session: String,
    _driver: Process,
    _profile: TempDir,
}

// === impl Browser ===

impl Browser {
    /// Opens one, for which these names have these addresses. It takes any certificate: whom visitors trust is not our matter.
    pub fn open(names: &[(&str, &str)]) -> Result<Self> {
        let address = free_address()?;
        let profile = tempfile::Builder::new().prefix("browser-").tempdir()?;
        let log = profile.path().join("driver.log");
        let port = format!("--port={}", address.port());
        let mut driver = Process::start("chromedriver", Path::new("/usr/bin/chromedriver"), [port], [], log)?;
        until("chromedriver listens", PAGE, || {
            driver.ensure_running()?;
            Ok(TcpStream::connect(address).ok())
        })?;
        let rules: Vec<_> = names.iter().map(|(name, to)| format!("MAP {name} {to}")).collect();
        let arguments = [
            "--headless=new".to_owned(),
            // It is root in a machine of its own.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--ignore-certificate-errors".to_owned(),
            "--window-size=1100,800".to_owned(),
            "--lang=en-US".to_owned(),
            format!("--user-data-dir={}", profile.path().join("profile").display()),
            format!("--host-resolver-rules={}", rules.join(", ")),
        ];
        let mut browser = Self { address, session: String::new(), _driver: driver, _profile: profile };
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let answer = browser.ask("POST", "/session", &wanted)?;
        let session = answer["sessionId"].as_str().context("no session")?;
        browser.session = format!("/session/{session}");
        Ok(browser)
    }

    pub fn visit(&self, url: &str) -> Result<()> {
        self.call("/url", &json!({ "url": url }))?;
        Ok(())
    }

    pub fn fill(&self, field: &str, text: &str) -> Result<()> {
        let element = self.find(field)?;
        self.call(&format!("/element/{element}/clear"), &json!({})).ok();
        self.call(&format!("/element/{element}/value"), &json!({ "text": text }))?;
        Ok(())
    }

    pub fn click(&self, element: &str) -> Result<()> {
        let element = self.find(element)?;
        self.call(&format!("/element/{element}/click"), &json!({}))?;
        Ok(())
    }

    /// The text that a visitor reads in this element, once it is there.
    pub fn text(&self, element: &str) -> Result<String> {
        let script = "const e = document.querySelector(arguments[0]); return e && e.innerText";
        until(&format!("{element} is on the page"), PAGE, || {
            let found = self.call("/execute/sync", &json!({ "script": script, "args": [element] }))?;
            Ok(found.as_str().map(str::to_owned))
        })
        .with_context(|| self.page())
    }

    /// Keeps what a visitor sees.
    pub fn picture(&self, path: &Path) -> Result<()> {
        let picture = self.ask("GET", &format!("{}/screenshot", self.session), &Value::Null)?;
        let picture = STANDARD.decode(picture.as_str().context("no picture")?)?;
        path.parent().map(fs::create_dir_all).transpose()?;
        fs::write(path, picture).with_context(|| format!("writing {}", path.display()))
    }

    /// Where it is, and what stands there.
    pub fn page(&self) -> String {
        let script = "return location.href + ': ' + document.body.innerText.slice(0, 600)";
        let page = self.call("/execute/sync", &json!({ "script": script, "args": [] }));
        page.map_or_else(|error| format!("{error:#}"), |page| page.as_str().unwrap_or_default().to_owned())
    }

    fn find(&self, element: &str) -> Result<String> {
        let wanted = json!({ "using": "css selector", "value": element });
        until(&format!("{element} is on the page"), PAGE, || {
            Ok(self.call("/element", &wanted)?[ELEMENT].as_str().map(str::to_owned))
        })
        .with_context(|| self.page())
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let url = format!("http://{}{path}", self.address);
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "90", "--request", method]);
        if !body.is_null() {
            command.args(["--header", "Content-Type: application/json", "--data", &body.to_string()]);
        }
        let output = command.arg(&url).output().context("running curl")?;
        ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| url.clone())?;
        let value = answer["value"].clone();
        let failure = value["message"].as_str().filter(|_| value["error"].is_string());
        ensure!(
            failure.is_none(),
            "{path}: {}",
            failure.unwrap_or_default().lines().next().unwrap_or_default()
        );
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends by it in order; if not, with the machine.
        let _ = self.ask("DELETE", &self.session, &Value::Null);
    }
}
