//! What callers asked warms the next version, as the log tells, and keeps one out that has no scores for
//! it. In a process of its own: logging is started once a process.

#[path = "serving/support.rs"]
#[expect(dead_code, reason = "what the other tests need")]
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatefold_proto::ranking::v1 as wire;
use serde_json::Value;
use wire::admin_client::AdminClient;

use support::{Running, column, eventually, publish, request};

/// The log of this process, as JSON lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// What was said when this version was loaded, once it is: recorded requests, their rows, and those
    /// that did not fit.
    async fn loaded(&self, model: &str) -> [u64; 3] {
        let line = || {
            let lines = self.text();
            let mut fields =
                lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].take());
            fields.find(|fields| fields["message"] == "the model is loaded" && fields["model"] == model)
        };
        eventually(async || line().is_some()).await;
        let fields = line().unwrap();
        ["recorded_requests", "recorded_rows", "recorded_unfit"].map(|name| fields[name].as_u64().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_warmed_by_what_callers_asked() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .init();
    let running = Running::start(|_| {}).await;
    assert_eq!(log.loaded("demo/1").await, [0, 0, 0], "nobody has asked yet");

    let mut client = running.client().await;
    let mut asked = request(&[10.0, 20.0, 30.0]);
    asked.context = vec![column(
        "country",
        wire::column::Values::Texts(wire::Texts { values: vec!["a caller's text".into()] }),
    )];
    client.score(asked).await.unwrap();
    publish(running.folder.path(), "demo", 0.0);
    assert_eq!(log.loaded("demo/2").await, [1, 3, 0]);

    // One request a second is kept.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    client.score(request(&[77.0, 10.0])).await.unwrap();
    publish(running.folder.path(), "demo", 0.25);
    let mut admin = AdminClient::new(running.channel().await);
    let mut refused = String::new();
    eventually(async || {
        let listed = admin.list_versions(wire::ListVersionsRequest { model: "demo".into() }).await.unwrap();
        let third = listed.into_inner().versions.into_iter().find(|status| status.version == 3);
        refused = third.map(|status| status.reason).unwrap_or_default();
        !refused.is_empty()
    })
    .await;
    let expected =
        "ctr is NaN for candidate 0 of requests that were scored before (1 recorded, in one batch)";
    assert!(refused.starts_with(expected), "{refused}");
    assert_eq!(client.score(request(&[77.0])).await.unwrap().into_inner().version, 2);
    assert!(!log.text().contains("a caller's text"), "{}", log.text());
}
