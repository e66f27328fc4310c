//! What parent and child say to each other until the payload runs: one `SOCK_SEQPACKET` pair, close-on-exec at both ends, so that the end of file at the
//! parent is the exec, and at the child the parent's death.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use airtight_sys::socket::{MAX_FDS, recv_fds, send_fds};
use airtight_sys::{Result, SysError};
use nix::errno::Errno;

/// The longest message; an error's text is cut to it.
const MESSAGE_MAX: usize = 4096;

/// From the child.
#[derive(Debug)]
pub(crate) enum Message {
    /// A step failed, and this is why.
    Failed { step: String, message: String },
    /// The gate does not serve, and this is why.
    NotServed { reason: String },
    /// The payload's program cannot be executed.
    NoExec { program: String, errno: Errno },
    /// The master of the sandbox's own terminal.
    Terminal(OwnedFd),
    /// The other end of the pipe that took the place of a standard stream.
    Stream(Stream, OwnedFd),
    /// The filter's listener.
    Listener(OwnedFd),
    /// A step was done at this time since boot.
    Stamp { step: String, at: Duration },
    /// The child goes on as this process, a child of the parent's too.
    Reborn(OwnedFd),
    /// Namespaces and mounts are there: the hooks of the host's side may run.
    HooksReady,
    /// All is ready but the payload.
    Created,
    /// The child executed, or ended.
    End,
}

/// Which standard stream a pipe stands for, and which way its bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// From this number of the caller's.
    From(u8),
    To(u8),
}

/// From the parent, to a bundle's child that was let go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The child's pid, as the host has it, is on disk: whatever happens to the parent, the child is known.
    Recorded(i32),
    /// The hooks of the host's side have run.
    HooksDone,
}

/// Says a word to the child.
///
/// # Errors
/// `sendmsg(2)`'s; `EPIPE` when the child has ended.
pub(crate) fn say(sock: &OwnedFd, word: Word) -> Result<()> {
    match word {
        Word::Recorded(pid) => send_fds(sock, format!("k{pid}").as_bytes(), &[]),
        Word::HooksDone => send_fds(sock, b"h", &[]),
    }
}

/// Waits for the next word.
///
/// # Errors
/// `EPIPE` when the parent has died.
pub(crate) fn await_word(sock: &OwnedFd) -> Result<Word> {
    let mut buffer = [0_u8; 16];
    let (length, _) = recv_fds(sock, &mut buffer, 0)?;
    let bytes = buffer.get(..length).unwrap_or_default();
    match std::str::from_utf8(bytes).unwrap_or_default() {
        "h" => Ok(Word::HooksDone),
        text => text
            .strip_prefix('k')
            .and_then(|pid| pid.parse().ok())
            .map(Word::Recorded)
            .ok_or_else(|| SysError::new("recvmsg", "the parent has ended", Errno::EPIPE)),
    }
}

/// Lets the child go on, with the layers' and volumes' descriptors in order.
///
/// # Errors
/// `sendmsg(2)`'s; `EPIPE` when the child has ended.
pub(crate) fn release(sock: &OwnedFd, fds: &[OwnedFd]) -> Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut chunks = borrowed.chunks(MAX_FDS).peekable();
    while let Some(chunk) = chunks.next() {
        send_fds(
            sock,
            if chunks.peek().is_some() { b"m" } else { b"g" },
            chunk,
        )?;
    }
    if borrowed.is_empty() {
        send_fds(sock, b"g", &[])
    } else {
        Ok(())
    }
}

/// Waits for [`release`].
///
/// # Errors
/// `EPIPE` when the parent has died.
pub(crate) fn await_release(sock: &OwnedFd) -> Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    loop {
        let mut tag = [0_u8; 1];
        let (length, more) = recv_fds(sock, &mut tag, MAX_FDS)?;
        fds.extend(more);
        match (length, tag) {
            (1, [b'm']) => {}
            (1, [b'g']) => return Ok(fds),
            _ => {
                return Err(SysError::new(
                    "recvmsg",
                    "the parent has ended",
                    Errno::EPIPE,
                ));
            }
        }
    }
}

/// Sends one message of the child.
///
/// # Errors
/// `sendmsg(2)`'s.
pub(crate) fn tell(sock: &OwnedFd, message: &Message) -> Result<()> {
    let (tag, text, fd) = match message {
        Message::Failed { step, message } => ('f', format!("{step}\0{message}"), None),
        Message::NotServed { reason } => ('n', format!("\0{reason}"), None),
        Message::NoExec { program, errno } => ('x', format!("{}\0{program}", *errno as i32), None),
        Message::Terminal(fd) => ('t', String::new(), Some(fd.as_fd())),
        Message::Stream(Stream::From(number), fd) => ('i', number.to_string(), Some(fd.as_fd())),
        Message::Stream(Stream::To(number), fd) => ('o', number.to_string(), Some(fd.as_fd())),
        Message::Listener(fd) => ('l', String::new(), Some(fd.as_fd())),
        Message::Stamp { step, at } => ('s', format!("{}\0{step}", at.as_nanos()), None),
        Message::Reborn(fd) => ('r', String::new(), Some(fd.as_fd())),
        Message::HooksReady => ('h', String::new(), None),
        Message::Created => ('c', String::new(), None),
        Message::End => return Ok(()),
    };
    let mut bytes = format!("{tag}{text}").into_bytes();
    bytes.truncate(MESSAGE_MAX);
    send_fds(sock, &bytes, fd.as_slice())
}

/// Receives the next message of the child.
///
/// # Errors
/// `recvmsg(2)`'s; `EBADMSG` for one that is none of these.
pub(crate) fn hear(sock: &OwnedFd) -> Result<Message> {
    let mut buffer = [0_u8; MESSAGE_MAX];
    let received = match recv_fds(sock, &mut buffer, 1) {
        // The child ended with a word of ours unread. The kernel says so once, ahead of what the child said last.
        Err(error) if error.errno == Errno::ECONNRESET => recv_fds(sock, &mut buffer, 1),
        received => received,
    };
    let (length, fds) = received?;
    let Some((tag, rest)) = buffer.get(..length).and_then(<[u8]>::split_first) else {
        return Ok(Message::End);
    };
    let text = String::from_utf8_lossy(rest);
    let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
    let number = first.parse::<u64>();
    match (*tag, fds.into_iter().next(), number) {
        (b'f', None, _) => Ok(Message::Failed {
            step: first.to_owned(),
            message: second.to_owned(),
        }),
        (b'n', None, _) => Ok(Message::NotServed {
            reason: second.to_owned(),
        }),
        (b'x', None, Ok(errno)) => {
            let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(0));
            Ok(Message::NoExec {
                program: second.to_owned(),
                errno,
            })
        }
        (b's', None, Ok(nanos)) => Ok(Message::Stamp {
            step: second.to_owned(),
            at: Duration::from_nanos(nanos),
        }),
        (b'r', Some(fd), _) => Ok(Message::Reborn(fd)),
        (b'h', None, _) => Ok(Message::HooksReady),
        (b'c', None, _) => Ok(Message::Created),
        (b't', Some(fd), _) => Ok(Message::Terminal(fd)),
        (b'l', Some(fd), _) => Ok(Message::Listener(fd)),
        (b'i', Some(fd), Ok(number @ 0..=2)) => {
            Ok(Message::Stream(Stream::From(number.to_le_bytes()[0]), fd))
        }
        (b'o', Some(fd), Ok(number @ 0..=2)) => {
            Ok(Message::Stream(Stream::To(number.to_le_bytes()[0]), fd))
        }
        _ => Err(SysError::new(
            "recvmsg",
            "an unknown message of the child",
            Errno::EBADMSG,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use airtight_sys::socket::seqpacket_pair;

    #[test]
    fn messages_arrive_as_they_were_sent_and_the_end_is_told() {
        let (parent, child) = seqpacket_pair().unwrap();
        tell(
            &child,
            &Message::Failed {
                step: "rootfs".into(),
                message: "mount(overlay): EINVAL".into(),
            },
        )
        .unwrap();
        tell(
            &child,
            &Message::NoExec {
                program: "/bin/x".into(),
                errno: Errno::ENOENT,
            },
        )
        .unwrap();
        assert!(
            matches!(hear(&parent).unwrap(), Message::Failed { step, message } if step == "rootfs" && message == "mount(overlay): EINVAL")
        );
        assert!(
            matches!(hear(&parent).unwrap(), Message::NoExec { program, errno: Errno::ENOENT } if program == "/bin/x")
        );
        drop(child);
        assert!(matches!(hear(&parent).unwrap(), Message::End));
    }

    #[test]
    fn a_child_that_did_not_listen_is_heard_to_its_end() {
        let (parent, child) = seqpacket_pair().unwrap();
        say(&parent, Word::Recorded(1)).unwrap();
        tell(&child, &Message::HooksReady).unwrap();
        drop(child);
        assert!(matches!(hear(&parent).unwrap(), Message::HooksReady));
        assert!(matches!(hear(&parent).unwrap(), Message::End));
    }

    #[test]
    fn words_arrive_in_order_and_a_dead_parent_is_an_error() {
        let (parent, child) = seqpacket_pair().unwrap();
        say(&parent, Word::Recorded(4_194_303)).unwrap();
        say(&parent, Word::HooksDone).unwrap();
        assert_eq!(await_word(&child).unwrap(), Word::Recorded(4_194_303));
        assert_eq!(await_word(&child).unwrap(), Word::HooksDone);
        drop(parent);
        assert_eq!(await_word(&child).unwrap_err().errno, Errno::EPIPE);
    }

    #[test]
    fn descriptors_arrive_in_order_and_a_dead_parent_is_an_error() {
        let (parent, child) = seqpacket_pair().unwrap();
        let fds: Vec<OwnedFd> = (0..3).map(|_| seqpacket_pair().unwrap().0).collect();
        release(&parent, &fds).unwrap();
        assert_eq!(await_release(&child).unwrap().len(), 3);
        drop(parent);
        assert_eq!(await_release(&child).unwrap_err().errno, Errno::EPIPE);
    }
}
