//! A blob from a registry: it goes on where it was cut, and is believed when its digest is right.

use std::io::{self, Read};

use ureq::http::Method;

use super::client::Client;
use super::http::{Ask, Reply};
use super::pace::Fault;
use super::token::Scope;
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::store::Partial;

const BUFFER: usize = 128 << 10;
/// So much in one attempt is progress; less is a peer that holds us up.
const PROGRESS: u64 = 1 << 20;

impl Client {
    /// Fetches what is missing of a blob, and verifies all of it. The bytes that came over the wire.
    pub(crate) fn fetch(&self, scope: &Scope, partial: &mut Partial) -> Result<u64> {
        let meter = &self.http.meter;
        let mut received = 0;
        meter.move_on(partial.length());
        // What lay here from another time may be what is wrong.
        let mut doubt = partial.length() > 0;
        let mut backoff = self.backoff();
        loop {
            while partial.length() < partial.wanted().size() {
                let before = partial.length();
                let ended = self.fetch_some(scope, partial);
                received += partial.length().saturating_sub(before);
                let Err(fault) = ended else { continue };
                if partial.length().saturating_sub(before) >= PROGRESS {
                    backoff.progress();
                }
                doubt |= partial.length() > 0;
                backoff.wait(fault)?;
            }
            let length = partial.length();
            match partial.verify() {
                Ok(()) => return Ok(received),
                Err(_) if doubt => {
                    doubt = false;
                    meter.move_back(length);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One request: all that is missing, or as much as comes.
    fn fetch_some(&self, scope: &Scope, partial: &mut Partial) -> std::result::Result<(), Fault> {
        let wanted = partial.wanted().clone();
        let offset = partial.length();
        let url = self.url(scope, &format!("blobs/{}", wanted.digest()));
        let mut ask = Ask::new(Method::GET, url);
        if offset > 0 {
            ask.headers.push(("range", format!("bytes={offset}-")));
        }
        let reply = self.attempt(&ask, scope)?;
        let skip = match reply.status {
            // The whole, though a part was asked for: it begins with what is here.
            200 => offset,
            206 => {
                check_range(&reply, offset, &wanted)?;
                0
            }
            416 if offset > 0 => {
                self.http.meter.move_back(offset);
                partial.restart()?;
                return Ok(());
            }
            _ => return Err(self.complaint(reply, "cannot be fetched").into()),
        };
        let due = wanted.size() - offset + skip;
        if let Some(length) = reply.length()?.filter(|length| *length != due) {
            let problem = format!("is said to be {length} bytes, and the manifest says {due}");
            return Err(reply.strange(problem).into());
        }
        let mut body = self.http.body(reply, Some(&self.http.meter));
        // Counted once already.
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        self.http.meter.move_back(skip);
        skipped.map_err(|error| self.cut(&wanted, &error))?;
        let mut buffer = vec![0; BUFFER];
        while partial.length() < wanted.size() {
            let count = body
                .read(&mut buffer)
                .map_err(|error| self.cut(&wanted, &error))?;
            if count == 0 {
                return Err(self.cut(&wanted, &io::ErrorKind::UnexpectedEof.into()));
            }
            partial.write(buffer.get(..count).unwrap_or_default())?;
        }
        // The end is read too: more than there should be is wrong, and the connection can be used again.
        match body.read(&mut buffer) {
            Ok(0) => Ok(()),
            Ok(count) => Ok(partial.write(buffer.get(..count).unwrap_or_default())?),
            Err(_) => Ok(()),
        }
    }

    fn cut(&self, blob: &Descriptor, error: &io::Error) -> Fault {
        Fault::Again {
            error: crate::Error::refused(
                format!("{} from {}", blob.digest(), self.host()),
                format!("was cut off: {error}"),
                "pull again: it goes on from here",
            ),
            after: None,
        }
    }
}

/// `bytes FIRST-LAST/WHOLE`, as it was asked for.
fn check_range(reply: &Reply, offset: u64, wanted: &Descriptor) -> Result<()> {
    let said = reply.header("content-range").unwrap_or_default();
    let last = wanted.size() - 1;
    let range = format!("bytes {offset}-{last}/");
    let whole = said.strip_prefix(range.as_str());
    if whole.is_some_and(|whole| whole == "*" || whole == wanted.size().to_string()) {
        return Ok(());
    }
    let said: String = said.chars().take(80).collect();
    Err(reply.strange(format!(
        "gives the range `{said}` where `{range}` was asked for"
    )))
}
