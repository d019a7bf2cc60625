//! A real browser without a screen: Chromium, driven by the WebDriver protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host;
use crate::port::Port;
use crate::wait::{LIMIT, wait_for};

/// One window. Dropped, browser and driver are ended.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: Port,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Opens a window of this size; nothing after having said why, if there is no browser.
    #[must_use]
    pub fn or_skip(width: u32, height: u32) -> Option<Self> {
        let bin = host::cache_folder().join("bin");
        let (driver, browser) = (bin.join("chromedriver"), bin.join("chromium"));
        if !driver.is_file() || !browser.is_file() {
            host::skip("no chromium is found; `cargo xtask setup` brings one");
            return None;
        }
        Some(Self::start(&driver, &browser, (width, height)))
    }

    fn start(driver: &Path, browser: &Path, (width, height): (u32, u32)) -> Self {
        let (port, profile) = (Port::take(), tempfile::tempdir().expect("a folder for a profile"));
        let files: PathBuf = host::cache_folder().join("unpacked/chromium");
        let child = Command::new(driver)
            .arg(format!("--port={}", port.number()))
            .env("FONTCONFIG_PATH", files.join("etc/fonts"))
            .env("XDG_DATA_HOME", files.join("usr/share"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the driver can be run");
        let mut browser_of = Self { driver: child, port, session: String::new(), _profile: profile };
        wait_for(LIMIT, "the driver answers", || browser_of.try_ask("GET", "/status", &Value::Null));
        let profile = format!("--user-data-dir={}", browser_of._profile.path().display());
        let window = format!("--window-size={width},{height}");
        // Root has no sandbox, and /dev/shm may be small.
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &profile, &window];
        let options = json!({ "binary": browser, "args": arguments });
        let wanted = json!({ "acceptInsecureCerts": true, "goog:chromeOptions": options });
        let session =
            browser_of.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser_of.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser_of
    }

    /// Goes to an address.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// What a script returns.
    #[must_use]
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Clicks the first element that a selector names.
    pub fn click(&self, selector: &str) {
        let element = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let id = element.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        self.post(&format!("element/{}/click", id.expect("an element")), &json!({}));
    }

    /// As the page looks to whoever prefers this: `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let parameters = json!({ "features": [feature] });
        self.post("goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": parameters }));
    }

    /// A picture of the window, PNG.
    #[must_use]
    pub fn picture(&self) -> Vec<u8> {
        let picture = self.ask("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        BASE64_STANDARD.decode(picture.as_str().expect("a text")).expect("base64")
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{what}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body).unwrap_or_else(|| panic!("{method} {path} {body} is not answered"))
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let stream = TcpStream::connect(("127.0.0.1", self.port.number())).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n");
        write!(&stream, "{head}Content-Type: application/json\r\nConnection: close\r\n\r\n{body}").ok()?;
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).ok().filter(|read| *read > 0)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok()?;
                }
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).ok()?;
        let document: Value = serde_json::from_slice(&body).ok()?;
        let value = document["value"].clone();
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        Some(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        // Its browser ends with it, or with the session.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
