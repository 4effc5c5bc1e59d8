//! The log of a test's process, kept to be read. It is started once a process.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::Level;

/// The log, as JSON lines.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what is said from now on.
    pub(crate) fn start(level: Level) -> Log {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt().json().with_max_level(level).with_writer(move || writer.clone()).init();
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The fields of the lines whose message begins so.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        let text = self.text();
        let fields = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].take());
        fields.filter(|fields| fields["message"].as_str().unwrap().starts_with(message)).collect()
    }
}
