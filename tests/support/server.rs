//! A real server process on a free port, stopped when dropped.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::gatefold;

/// A running `gatefold serve`.
pub struct Server {
    child: Child,
    arguments: Vec<String>,
    /// `http://127.0.0.1:<port>` of the gRPC API.
    pub url: String,
    /// `http://127.0.0.1:<port>` of the admin port.
    pub admin: String,
}

/// A port nobody listens on at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

impl Server {
    /// Starts a server over a folder of models and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready within 30 seconds; its log is in the message.
    pub fn start(models: &str, more: &[&str]) -> Server {
        let listen = format!("127.0.0.1:{}", free_port());
        let admin = format!("127.0.0.1:{}", free_port());
        let mut arguments = vec!["serve", "--models", models, "--listen", &listen, "--admin", &admin];
        arguments.extend_from_slice(more);
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let (url, admin) = (format!("http://{listen}"), format!("http://{admin}"));
        Server { child: launch(&arguments, &admin), arguments, url, admin }
    }

    /// Ends the process as a crash does: by SIGKILL, in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
    }

    /// Starts a server that was killed again, on the same ports, and waits until it is ready.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn restart(&mut self) {
        self.child = launch(&self.arguments, &self.admin);
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB, by the operating system's account.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux /proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS in /proc");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of kB")
    }

    /// Open file handles, sockets included.
    pub fn handles(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("Linux /proc").count()
    }

    /// Processor time of all threads so far, in seconds, as Linux counts it (in hundredths).
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("Linux /proc");
        // The second field, the program's name in parentheses, may hold spaces; the 14th and 15th
        // are `utime` and `stime`.
        let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = after_name.split_whitespace().skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<f64>().expect("a number of ticks")).sum::<f64>() / 100.0
    }

    /// Sends SIGTERM and waits for the exit status.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let status = std::process::Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
        self.child.wait().expect("the server ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `gatefold` with `arguments` and waits until `admin` says that it is ready.
fn launch(arguments: &[String], admin: &str) -> Child {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = gatefold(&arguments).stderr(Stdio::piped()).spawn().expect("gatefold starts");
    let log = drain(&mut child);
    let started = Instant::now();
    while !ready(admin) {
        let ended = child.try_wait().expect("a child can be asked");
        if ended.is_some() || started.elapsed() > Duration::from_secs(30) {
            let _ = child.kill();
            let lines: Vec<String> = log.try_iter().collect();
            panic!("the server is not ready ({ended:?}): {}", lines.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Reads the child's log on a thread, so that the pipe never fills.
fn drain(child: &mut Child) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let stderr = child.stderr.take().expect("stderr is piped");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Nobody may be reading any more: the pipe is drained all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The body of a GET on the admin port, with the status line's code.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let host = address.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split_whitespace().nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Some((code, body))
}

fn ready(admin: &str) -> bool {
    get(admin, "/readyz").is_some_and(|(code, _)| code == 200)
}
