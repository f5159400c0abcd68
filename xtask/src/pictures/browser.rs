//! Headless Chromium, told by the protocol of its developer tools over two pipes: what it has open stays open while the relay
//! behind it changes.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use data_encoding::BASE64;
use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a page has to lay itself out anew.
const LAYOUT: Duration = Duration::from_millis(600);
/// What is left below the last thing on a picture, in CSS pixels.
const MARGIN: u32 = 8;
/// Chromium reads orders from descriptor 3 and answers on 4; a shell puts its own input and output there.
const PIPES: &str = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// What a page is looked at on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// In CSS pixels.
    pub(super) width: u32,
    /// What of the page is the last to be on the picture: a selector of CSS.
    pub(super) last: &'static str,
    /// Pixels of the picture to one of CSS.
    pub(super) scale: f64,
    pub(super) dark: bool,
    pub(super) phone: bool,
}

/// A browser with one page; it ends when this is dropped.
pub(super) struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    next_id: u64,
    session: String,
}

impl Browser {
    /// Starts it, with what it keeps in `profile`.
    pub(super) fn start(profile: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", PIPES, "sh", "chromium", "--headless", "--remote-debugging-pipe", "--no-sandbox"]);
        command.args(["--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--lang=en-GB"]);
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        // Whatever else it keeps goes there as well.
        command.env("HOME", profile);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().context("cannot start chromium")?;
        let orders = child.stdin.take().context("no way to tell chromium")?;
        let mut output = BufReader::new(child.stdout.take().context("no way to hear chromium")?);
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let Ok(answer) = serde_json::from_slice(&message) else { return };
                if sender.send(answer).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self { child, orders, answers, next_id: 0, session: String::new() };
        let target = browser.order("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.order("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().context("chromium gives no session")?.to_owned();
        Ok(browser)
    }

    /// Opens a page.
    pub(super) fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let opened = self.order("Page.navigate", &json!({ "url": url }))?;
        match opened["errorText"].as_str() {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// The value of an expression in the page, as text.
    pub(super) fn ask(&mut self, expression: &str) -> anyhow::Result<String> {
        let answer = self.order("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }))?;
        let value = &answer["result"]["value"];
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// What the page looks like there, as PNG.
    pub(super) fn picture(&mut self, screen: Screen) -> anyhow::Result<Vec<u8>> {
        let Screen { width, last, scale, dark, phone } = screen;
        let metrics =
            |height: u32| json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone });
        self.order("Emulation.setDeviceMetricsOverride", &metrics(800))?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.order("Emulation.setEmulatedMedia", &json!({ "features": features }))?;
        thread::sleep(LAYOUT);
        let bottom =
            format!("Math.ceil(document.querySelector({last:?}).getBoundingClientRect().bottom + scrollY) + {MARGIN}");
        let height = self.ask(&bottom)?;
        let height: u32 = height.parse().with_context(|| format!("{last}: a page that ends at {height}"))?;
        self.order("Emulation.setDeviceMetricsOverride", &metrics(height))?;
        thread::sleep(LAYOUT);
        let taken = self.order("Page.captureScreenshot", &json!({ "format": "png", "optimizeForSpeed": false }))?;
        let data = taken["data"].as_str().context("chromium gives no picture")?;
        BASE64.decode(data.as_bytes()).context("chromium's picture")
    }

    fn order(&mut self, method: &str, parameters: &Value) -> anyhow::Result<Value> {
        self.next_id += 1;
        let id = self.next_id;
        let mut order = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            order["sessionId"] = self.session.clone().into();
        }
        let mut text = order.to_string().into_bytes();
        text.push(0);
        self.orders.write_all(&text).context("chromium has ended")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left).with_context(|| format!("chromium: no answer to {method}"))?;
            // What else it says are events.
            if answer["id"] == id {
                return match answer["error"]["message"].as_str() {
                    Some(error) => bail!("chromium: {method}: {error}"),
                    None => Ok(answer["result"].clone()),
                };
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end with it: their pipes to it close.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
