//! Starts the gate as the launcher does: a control socket as descriptor 3, the plan, a process for the sandbox, listeners.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::allow_attributes,
    reason = "each test binary uses its own part of this"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use airtight_plan::{GateAudit, GateDeath, GateEndpoint, GatePlan, GatePublished, Upstream};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::signal::pidfd_open;
use airtight_sys::socket::{recv_fds, send_fds, seqpacket_pair};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const BINARY: &str = env!("CARGO_BIN_EXE_airtight-gate");

/// Long enough that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A child that does not outlive the test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub struct Gate {
    pub process: Killed,
    pub sandbox: Killed,
    pub control: OwnedFd,
}

/// How the gate is started.
pub struct Start<'a> {
    pub plan: GatePlan,
    pub outside: Vec<BorrowedFd<'a>>,
    pub inside: Vec<BorrowedFd<'a>>,
    pub audit: Option<BorrowedFd<'a>>,
    /// Shell words that the gate's path is added to.
    pub wrap: String,
    /// Stands for the sandbox.
    pub sandbox: Killed,
}

/// A process that does nothing.
pub fn sleeper() -> Killed {
    Killed(
        Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

impl<'a> Start<'a> {
    pub fn new(endpoints: Vec<GateEndpoint>, inside: Vec<BorrowedFd<'a>>) -> Self {
        let plan = GatePlan {
            sandbox: "test".into(),
            landlock_abi: airtight_sys::landlock::abi().unwrap(),
            endpoints,
            published: Vec::new(),
            on_death: GateDeath::Kill,
            audit: GateAudit::Off,
        };
        Self {
            plan,
            outside: Vec::new(),
            inside,
            audit: None,
            wrap: "exec".into(),
            sandbox: sleeper(),
        }
    }

    pub fn published(
        mut self,
        published: Vec<GatePublished>,
        outside: Vec<BorrowedFd<'a>>,
    ) -> Self {
        (self.plan.published, self.outside) = (published, outside);
        self
    }

    pub fn audit(mut self, form: GateAudit, sink: BorrowedFd<'a>) -> Self {
        self.plan.audit = form;
        self.audit = Some(sink);
        self
    }

    /// Until READY.
    pub fn ready(self) -> Gate {
        let mut gate = self.unready();
        let mut tag = [0; 1024];
        let (length, _) = recv_fds(&gate.control, &mut tag, 0).unwrap();
        if &tag[..length] != b"R" {
            let (status, error) = gate.end();
            panic!(
                "not ready: {status}: {error}{}",
                String::from_utf8_lossy(&tag[..length])
            );
        }
        gate
    }

    /// Everything handed over, the answer not awaited.
    pub fn unready(self) -> Gate {
        let (process, control) = spawn(&self.wrap);
        let gate = Gate {
            process,
            sandbox: self.sandbox,
            control,
        };
        let mut fds: Vec<BorrowedFd<'_>> = self.audit.into_iter().collect();
        fds.extend(&self.outside);
        let mut message = vec![b'P'];
        message.extend(serde_json::to_vec(&self.plan).unwrap());
        send_fds(&gate.control, &message, &fds).unwrap();
        // In the order that a launch may well have: the sandbox is faster than the launcher.
        send_fds(&gate.control, b"L", &self.inside).unwrap();
        let pidfd = pidfd_open(i32::try_from(gate.sandbox.0.id()).unwrap()).unwrap();
        send_fds(&gate.control, b"D", &[pidfd.as_fd()]).unwrap();
        gate
    }
}

/// The binary with our end of its control socket.
pub fn spawn(wrap: &str) -> (Killed, OwnedFd) {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let process = Command::new("sh")
        .arg("-c")
        .arg(format!("exec 3<&0 0</dev/null; {wrap} '{BINARY}'"))
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (Killed(process), ours)
}

impl Gate {
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// What happens meanwhile it finds all at once afterwards.
    pub fn stopped(&mut self, meanwhile: impl FnOnce(&mut Killed)) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        meanwhile(&mut self.sandbox);
        kill(pid, Signal::SIGCONT).unwrap();
    }

    /// Waits for its end: how, and what it said, on its stderr or to who waits for READY.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.process
            .0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let mut answer = [0; 1024];
        if let Ok((length, _)) = recv_fds(&self.control, &mut answer, 0)
            && let Some((b'N', reason)) = answer[..length].split_first()
        {
            said.push_str(&format!(
                "airtight-gate: {}\n",
                String::from_utf8_lossy(reason)
            ));
        }
        (self.process.0.wait().unwrap(), said)
    }

    /// A line of its `/proc/PID/status`.
    pub fn status(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }
}

pub fn endpoint(inside: &TcpListener, upstream: Upstream) -> GateEndpoint {
    let display = match &upstream {
        Upstream::Address(address) => address.to_string(),
        Upstream::Name { host, port } => format!("{host}:{port}"),
    };
    GateEndpoint {
        display,
        inside: vec![inside.local_addr().unwrap()],
        upstream,
        public: false,
    }
}

pub fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    patient(stream)
}

pub fn accept(listener: &TcpListener) -> TcpStream {
    assert!(
        poll(&mut [Watch::readable(listener.as_fd())], Some(PATIENCE)).unwrap(),
        "nobody came"
    );
    patient(listener.accept().unwrap().0)
}

pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One endpoint at a listener of ours: the gate, where the sandbox dials, where we answer.
pub fn one_endpoint() -> (Gate, SocketAddr, TcpListener) {
    let (inside, upstream) = (listener(), listener());
    let endpoints = vec![endpoint(
        &inside,
        Upstream::Address(upstream.local_addr().unwrap()),
    )];
    let gate = Start::new(endpoints, vec![inside.as_fd()]).ready();
    (gate, inside.local_addr().unwrap(), upstream)
}

/// Reads a pipe until it has said `want`.
pub fn read_until(pipe: &mut (impl std::io::Read + AsFd), want: &str) -> String {
    let mut text = String::new();
    let mut byte = [0; 1];
    while !text.contains(want) {
        assert!(
            poll(&mut [Watch::readable(pipe.as_fd())], Some(PATIENCE)).unwrap(),
            "silent after {text:?}"
        );
        assert_eq!(pipe.read(&mut byte).unwrap(), 1, "ended after {text:?}");
        text.push(char::from(byte[0]));
    }
    text
}

/// Until nobody on the way takes any more. How much it was.
pub fn fill(stream: &mut TcpStream) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut refused) = (0, 0);
    while refused < 50 {
        match stream.write(&[b'x'; 65536]) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(_) => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    sent
}

/// Whether a test that needs root goes on; skips aloud.
pub fn root_or_skip() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        return true;
    }
    assert_ne!(
        std::env::var("AIRTIGHT_MUST_RUN").as_deref(),
        Ok("1"),
        "needs root"
    );
    eprintln!("skipped: needs root");
    false
}
