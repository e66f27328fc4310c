//! The three things that are asked of rtnetlink: `lo` up, an address on it, and a dump-free answer to each.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::error::{Result, SysError};

/// The loopback device is the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No duplicate-address detection: an address that is tentative cannot be bound yet.
const IFA_F_NODAD: u8 = 2;

/// A socket to the network namespace's rtnetlink.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// `socket(2)`'s.
    pub fn open() -> Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .map_err(|errno| SysError::new("socket", "AF_NETLINK, NETLINK_ROUTE", errno))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// `lo` up: the kernel adds 127.0.0.1/8 and ::1/128 by itself.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn loopback_up(&mut self) -> Result<()> {
        let up = libc::IFF_UP.cast_unsigned().to_ne_bytes();
        let mut body = vec![0_u8; 4];
        body.extend(LOOPBACK_INDEX.to_ne_bytes());
        body.extend(up);
        body.extend(up);
        self.request("RTM_NEWLINK lo up", libc::RTM_NEWLINK, 0, &body)
    }

    /// Puts one address on `lo` (a /32 or /128, host scope).
    ///
    /// # Errors
    /// The kernel's answer; an address that is there already is one.
    pub fn loopback_address(&mut self, address: IpAddr) -> Result<()> {
        let (family, prefix, bytes) = match address {
            IpAddr::V4(v4) => (libc::AF_INET, 32, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, 128, v6.octets().to_vec()),
        };
        let family = u8::try_from(family)
            .map_err(|_| SysError::new("RTM_NEWADDR", address.to_string(), Errno::EAFNOSUPPORT))?;
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut body = vec![family, prefix, flags, libc::RT_SCOPE_HOST];
        body.extend(LOOPBACK_INDEX.to_ne_bytes());
        for kind in [IFA_LOCAL, IFA_ADDRESS] {
            // Both lengths are 8 or 20, so the attribute needs no padding.
            body.extend(
                u16::try_from(4 + bytes.len())
                    .unwrap_or(u16::MAX)
                    .to_ne_bytes(),
            );
            body.extend(kind.to_ne_bytes());
            body.extend(&bytes);
        }
        self.request(
            "RTM_NEWADDR lo",
            libc::RTM_NEWADDR,
            NLM_F_CREATE | NLM_F_EXCL,
            &body,
        )
    }

    fn request(&mut self, what: &'static str, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        self.sequence += 1;
        let message = frame(kind, NLM_F_REQUEST | NLM_F_ACK | flags, self.sequence, body);
        let fail = |errno| SysError::new("netlink", what, errno);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty()).map_err(fail)?;
        let mut answer = [0_u8; 4096];
        let length = recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(fail)?;
        match acknowledged(answer.get(..length).unwrap_or_default(), self.sequence) {
            Some(0) => Ok(()),
            Some(code) => Err(fail(Errno::from_raw(-code))),
            None => Err(fail(Errno::EBADMSG)),
        }
    }
}

/// `nlmsghdr` and body: length, type, flags, sequence, port 0 (the kernel fills ours in).
fn frame(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// The error number of an `NLMSG_ERROR` with our sequence number (0 is success, else negative).
fn acknowledged(answer: &[u8], sequence: u32) -> Option<i32> {
    let word = |at: usize| {
        answer
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
    };
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    (kind == NLMSG_ERROR && u32::from_ne_bytes(word(8)?) == sequence)
        .then(|| word(16).map(i32::from_ne_bytes))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_length_and_an_answer_is_matched_by_sequence() {
        let message = frame(libc::RTM_NEWLINK, NLM_F_REQUEST, 7, &[1, 2, 3, 4]);
        assert_eq!(message.len(), 20);
        assert_eq!(message[..4], 20_u32.to_ne_bytes());

        let mut answer = frame(NLMSG_ERROR, 0, 7, &(-17_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer, 7), Some(-17));
        assert_eq!(acknowledged(&answer, 8), None, "another request's answer");
        answer.truncate(18);
        assert_eq!(acknowledged(&answer, 7), None, "cut short");
    }
}
