use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{DEADLINE, Process};

/// Set to `1`, it skips what needs a browser, for a machine without one.
const SKIP: &str = "COALESCENT_SKIP_BROWSER";

/// How often the page is asked whether it has come so far, since nothing wakes us for that.
const POLL: Duration = Duration::from_millis(20);

/// The key under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless Chromium, driven through chromedriver. Nothing is left of it when it is dropped.
pub struct Browser {
    driver: Process,
    addr: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a new profile; `None` where the person asked to skip what needs one.
    ///
    /// # Panics
    ///
    /// If there is none, with what to do about it.
    #[track_caller]
    pub fn start() -> Option<Self> {
        if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
            eprintln!("skipped, as {SKIP}=1");
            return None;
        }
        if Command::new("chromedriver")
            .arg("--version")
            .output()
            .is_err()
        {
            panic!(
                "chromedriver is missing: install it (Debian: apt-get install chromium chromium-driver), or set \
                 {SKIP}=1 to skip these tests"
            );
        }
        let driver = Process::spawn("chromedriver", Command::new("chromedriver").arg("--port=0"));
        let port: u16 = driver.wait_stdout("the driver's port", |line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let profile = TempDir::new().expect("a directory for the profile");
        let mut browser = Self {
            driver,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            _profile: profile,
        };
        let directory = browser._profile.path().display().to_string();
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1000,700",
            &format!("--user-data-dir={directory}"),
        ];
        let capabilities =
            json!({ "browserName": "chrome", "goog:chromeOptions": { "args": flags } });
        let started = browser.request(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": capabilities } }),
        );
        let id = started["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{id}");
        Some(browser)
    }

    /// Goes to an address.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Opens another tab and turns to it; returns how to turn back to the one before.
    #[track_caller]
    pub fn open_tab(&self, url: &str) -> (String, String) {
        let before = self.get("/window");
        let after = self.post("/window/new", &json!({ "type": "tab" }))["handle"].clone();
        let text = |handle: &Value| handle.as_str().expect("a handle").to_owned();
        self.turn_to(&text(&after));
        self.open(url);
        (text(&before), text(&after))
    }

    /// Turns to a tab.
    #[track_caller]
    pub fn turn_to(&self, tab: &str) {
        self.post("/window", &json!({ "handle": tab }));
    }

    /// Types into the element that the selector finds.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.post(
            &format!("/element/{element}/value"),
            &json!({ "text": text }),
        );
    }

    /// Empties an input.
    #[track_caller]
    pub fn clear(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("/element/{element}/clear"), &json!({}));
    }

    /// What a screen reader would call the element.
    #[track_caller]
    pub fn label(&self, selector: &str) -> String {
        let element = self.find(selector);
        let label = self.get(&format!("/element/{element}/computedlabel"));
        label.as_str().expect("a label").to_owned()
    }

    /// What a screen reader would say the element is.
    #[track_caller]
    pub fn role(&self, selector: &str) -> String {
        let element = self.find(selector);
        let role = self.get(&format!("/element/{element}/computedrole"));
        role.as_str().expect("a role").to_owned()
    }

    /// Runs a script in the page, and takes what it returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script in the page, and waits for what it gives to `done`.
    #[track_caller]
    pub fn run_until_done(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; {script}");
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script in the page returns what `pick` takes.
    #[track_caller]
    pub fn wait<T>(&self, script: &str, mut pick: impl FnMut(&Value) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let value = self.run(script);
            if let Some(found) = pick(&value) {
                return found;
            }
            assert!(
                Instant::now() < end,
                "not in {DEADLINE:?}: {script}: {value}"
            );
            thread::sleep(POLL);
        }
    }

    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let element = self.post("/element", &query);
        element[ELEMENT].as_str().expect("an element").to_owned()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.request("POST", &format!("{}{path}", self.session), body)
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.request("GET", &format!("{}{path}", self.session), &Value::Null)
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, value) = self.exchange(method, path, body).unwrap_or_else(|error| {
            panic!("{method} {path}: {error}\n{}", self.driver.transcript())
        });
        assert_eq!(status, 200, "{method} {path} {body}: {value}");
        value
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut socket = TcpStream::connect(self.addr)?;
        socket.set_read_timeout(Some(2 * DEADLINE))?;
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        )?;
        let (status, body) = read_response(&mut socket)?;
        let mut answer: Value = serde_json::from_slice(&body)?;
        Ok((status, answer["value"].take()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; killed, it would leave it running.
        if !self.session.is_empty() {
            let _ = self.exchange("DELETE", &self.session, &Value::Null);
        }
    }
}

/// Reads an answer whose length is told, and takes it apart.
fn read_response(socket: &mut TcpStream) -> std::io::Result<(u16, Vec<u8>)> {
    let malformed = || std::io::Error::other("a malformed answer");
    let mut bytes = Vec::new();
    let mut length = None;
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let (Some(head), None) = (head, length) {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let told = text.split("content-length:").nth(1).ok_or_else(malformed)?;
            let told = told.lines().next().unwrap_or_default().trim();
            length = Some(head + 4 + told.parse::<usize>().map_err(|_| malformed())?);
        }
        if let (Some(head), Some(length)) = (head, length)
            && bytes.len() >= length
        {
            let status = bytes.get(9..12).map(String::from_utf8_lossy);
            let status = status.and_then(|text| text.parse().ok());
            return Ok((
                status.ok_or_else(malformed)?,
                bytes[head + 4..length].to_vec(),
            ));
        }
        let mut more = [0; 8192];
        match socket.read(&mut more) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes.extend_from_slice(&more[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
