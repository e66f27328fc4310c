//! What stands between: it passes requests on, one to a connection, and does what a test tells it to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{header, read_head};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer, whole as it stands, instead of the registry's.
    Answer(String),
    /// So many bytes of the request's body reach the registry, then both ends are cut.
    CutRequest(u64),
    /// As it, at a registry that keeps what it has got of a piece.
    KeepRequest(u64),
    /// So many bytes of the answer's body reach the client.
    CutAnswer(u64),
    /// So many bytes of the answer's body reach the client, and no more until it is gone.
    StallAnswer(u64),
    /// One byte of the answer's body is another.
    Corrupt,
    /// The answer says that its body is longer by so many bytes.
    Lengthen(u64),
    /// The answer's body has more bytes than it says of itself, and says so in its head.
    Append(u64),
    /// A byte of the answer's body every tenth of a second.
    Drip,
    /// As many headers as fit into a megabyte.
    LongHead,
    /// Nothing is passed on until the client is gone.
    Hold,
    /// Nothing is said for so long.
    Silence(Duration),
    /// The request is done, and its answer lost.
    LoseAnswer,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub head: String,
    /// Bytes of its body that were passed on.
    pub body: u64,
}

#[derive(Debug)]
struct Rule {
    method: &'static str,
    path: &'static str,
    /// Requests that pass before.
    after: u32,
    times: u32,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    held: (Mutex<u32>, Condvar),
    /// Where an upload stands that the client knows by another location.
    moved: Mutex<Vec<(String, String)>>,
}

/// Listens as long as the test runs.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Before what listens on `to` of loopback.
    ///
    /// # Errors
    /// `bind(2)`'s.
    pub fn before(to: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                // A connection that breaks is what it is for.
                std::thread::spawn(move || drop(serve(&client, to, &shared)));
            }
        });
        Ok(Self { port, shared })
    }

    /// `localhost:PORT/REST`.
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        format!("localhost:{}/{rest}", self.port)
    }

    /// The first `times` requests of `method` whose path holds `path` meet `fault`.
    pub fn fault(&self, method: &'static str, path: &'static str, times: u32, fault: Fault) {
        self.fault_after(method, path, 0, times, fault);
    }

    /// As [`Proxy::fault`], once `after` of them have passed.
    pub fn fault_after(
        &self,
        method: &'static str,
        path: &'static str,
        after: u32,
        times: u32,
        fault: Fault,
    ) {
        let mut rules = self
            .shared
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rules.push(Rule {
            method,
            path,
            after,
            times,
            fault,
        });
    }

    pub fn clear(&self) {
        self.shared
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// All requests so far, in the order of their coming.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Those of a method.
    #[must_use]
    pub fn of(&self, method: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.method == method)
            .collect()
    }

    /// Waits until a request is held; whether one was within half a minute.
    #[must_use]
    pub fn holds(&self) -> bool {
        let (count, changed) = &self.shared.held;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited =
            changed.wait_timeout_while(count, Duration::from_secs(30), |count| *count == 0);
        waited.is_ok_and(|(count, _)| *count > 0)
    }
}

fn fault_for(shared: &Shared, method: &str, path: &str) -> Option<Fault> {
    let mut rules = shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rules
        .iter_mut()
        .find(|rule| rule.method == method && path.contains(rule.path) && rule.times > 0)?;
    if rule.after > 0 {
        rule.after -= 1;
        return None;
    }
    rule.times -= 1;
    Some(rule.fault.clone())
}

fn serve(client: &TcpStream, to: u16, shared: &Shared) -> io::Result<()> {
    let mut from = client;
    let Some(head) = read_head(&mut from)? else {
        return Ok(());
    };
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let at = {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen {
            method: method.clone(),
            path: path.clone(),
            head: head.clone(),
            body: 0,
        });
        seen.len() - 1
    };
    let fault = fault_for(shared, &method, &path);
    let length: u64 = header(&head, "content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    match &fault {
        Some(Fault::Answer(answer)) => {
            io::copy(&mut from.take(length), &mut io::sink())?;
            from.write_all(answer.as_bytes())?;
            return close(client);
        }
        Some(Fault::LongHead) => {
            from.write_all(b"HTTP/1.1 200 OK\r\n")?;
            for number in 0..20_000 {
                from.write_all(
                    format!("X-{number}: 0123456789012345678901234567890123456789\r\n").as_bytes(),
                )?;
            }
            from.write_all(b"\r\n")?;
            return close(client);
        }
        Some(Fault::Hold) => return hold(client, shared),
        Some(Fault::Silence(time)) => {
            std::thread::sleep(*time);
            return close(client);
        }
        _ => {}
    }
    let mut registry = TcpStream::connect(("127.0.0.1", to))?;
    if let Some(Fault::KeepRequest(kept)) = fault {
        return keep(client, registry, &head, kept.min(length), shared);
    }
    let head = {
        let moved = shared.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let now = moved.iter().rev().find(|(known, _)| *known == path);
        now.map_or_else(|| head.clone(), |(known, now)| head.replacen(known, now, 1))
    };
    registry.write_all(closing(&head).as_bytes())?;
    let pass = match fault {
        Some(Fault::CutRequest(most)) => length.min(most),
        _ => length,
    };
    let passed = io::copy(&mut from.take(pass), &mut registry)?;
    if let Some(seen) = shared
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_mut(at)
    {
        seen.body = passed;
    }
    if matches!(fault, Some(Fault::CutRequest(_))) {
        drop(registry);
        return close(client);
    }
    answer(client, registry, fault, shared)
}

fn answer(
    mut client: &TcpStream,
    mut registry: TcpStream,
    fault: Option<Fault>,
    shared: &Shared,
) -> io::Result<()> {
    let Some(head) = read_head(&mut registry)? else {
        return close(client);
    };
    let said = header(&head, "content-length").and_then(|text| text.parse::<u64>().ok());
    match fault {
        Some(Fault::LoseAnswer) => {
            io::copy(&mut registry, &mut io::sink())?;
        }
        Some(Fault::CutAnswer(most)) => {
            client.write_all(head.as_bytes())?;
            io::copy(&mut registry.take(most), &mut client)?;
        }
        Some(Fault::StallAnswer(most)) => {
            client.write_all(head.as_bytes())?;
            io::copy(&mut registry.take(most), &mut client)?;
            return hold(client, shared);
        }
        Some(Fault::Corrupt) => {
            client.write_all(head.as_bytes())?;
            let mut body = Vec::new();
            registry.read_to_end(&mut body)?;
            if let Some(byte) = body.last_mut() {
                *byte ^= 1;
            }
            client.write_all(&body)?;
        }
        Some(Fault::Lengthen(more) | Fault::Append(more)) if said.is_some() => {
            let said = said.unwrap_or(0);
            let length = |length: u64| format!("Content-Length: {length}\r\n");
            let head = head.replace(&length(said), &length(said + more));
            client.write_all(head.as_bytes())?;
            io::copy(&mut registry, &mut client)?;
            if matches!(fault, Some(Fault::Append(_))) {
                io::copy(&mut io::repeat(b'x').take(more), &mut client)?;
            }
        }
        Some(Fault::Drip) => {
            client.write_all(head.as_bytes())?;
            for byte in io::BufReader::new(registry).bytes() {
                client.write_all(&[byte?])?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        _ => {
            client.write_all(head.as_bytes())?;
            io::copy(&mut registry, &mut client)?;
        }
    }
    close(client)
}

/// The first bytes of a piece go on as a piece of their own, and the client is not told.
fn keep(
    mut client: &TcpStream,
    mut registry: TcpStream,
    head: &str,
    kept: u64,
    shared: &Shared,
) -> io::Result<()> {
    let mut lines: Vec<String> = Vec::new();
    for line in closing(head).lines() {
        let lower = line.to_ascii_lowercase();
        if lower.starts_with("content-length:") {
            lines.push(format!("Content-Length: {kept}"));
        } else if !lower.starts_with("content-range:") {
            lines.push(line.to_owned());
        }
    }
    registry.write_all((lines.join("\r\n") + "\r\n").as_bytes())?;
    io::copy(&mut (&mut client).take(kept), &mut registry)?;
    let answer = read_head(&mut registry)?.unwrap_or_default();
    let path = |url: &str| url.splitn(4, '/').nth(3).map(|path| format!("/{path}"));
    let known = head.split(' ').nth(1).map(str::to_owned);
    if let (Some(known), Some(now)) = (known, header(&answer, "location").and_then(path)) {
        let mut moved = shared.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.push((known, now));
    }
    close(client)
}

/// Until the client is gone: a killed one closes its end.
fn hold(mut client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let (count, changed) = &shared.held;
    *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    changed.notify_all();
    let mut buffer = [0; 4096];
    // What it still sends is read slowly, so that it is in the middle of it.
    while client.read(&mut buffer)? > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    Ok(())
}

fn close(client: &TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    // What is on its way in would make a reset of it, which takes the answer along.
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut from = client;
    drop(io::copy(&mut from, &mut io::sink()));
    Ok(())
}

/// The request, for a connection of its own.
fn closing(head: &str) -> String {
    let mut lines: Vec<&str> = head
        .trim_end()
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .collect();
    lines.push("Connection: close");
    lines.join("\r\n") + "\r\n\r\n"
}
