//! Real-time scheduling and many datagrams in one system call.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Priority among real-time threads: above the compositor and the encoder, whose work would be late without ours.
const REALTIME_PRIORITY: i32 = 12;

/// Gives the calling thread round-robin real-time scheduling. Threads that it starts do not inherit it. Without the permission
/// nothing changes; the caller says so once.
///
/// # Errors
/// The system's reason, usually `EPERM`.
pub fn make_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: REALTIME_PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: thread 0 is the calling one, and `parameters` lives through the call.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Datagrams in one call. More gains nothing: the cost of the call itself is spread thin by then.
pub(super) const BATCH: usize = 32;

/// Sends up to [`BATCH`] datagrams to one address; gives how many were taken.
pub(super) fn send_batch(socket: BorrowedFd<'_>, to: &SocketAddr, datagrams: &[Vec<u8>]) -> io::Result<usize> {
    let address = Address::new(to);
    let mut slices = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    // SAFETY: an all-zero mmsghdr is valid: null pointers with zero lengths.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let count = datagrams.len().min(BATCH);
    for ((header, slice), datagram) in headers.iter_mut().zip(&mut slices).zip(datagrams) {
        slice.iov_base = datagram.as_ptr().cast_mut().cast();
        slice.iov_len = datagram.len();
        header.msg_hdr.msg_iov = slice;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw const address.storage).cast_mut().cast();
        header.msg_hdr.msg_namelen = address.length;
    }
    // SAFETY: the first `count` headers point to the address, the slices and the datagrams, which all live through the call;
    // sending only reads them.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

struct Address {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl Address {
    fn new(address: &SocketAddr) -> Address {
        // SAFETY: plain numbers, for which zero is valid.
        let mut storage: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        match address {
            SocketAddr::V6(v6) => {
                storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                storage.sin6_port = v6.port().to_be();
                storage.sin6_addr.s6_addr = v6.ip().octets();
                storage.sin6_scope_id = v6.scope_id();
                Address { storage, length: size_of::<libc::sockaddr_in6>() as libc::socklen_t }
            }
            SocketAddr::V4(v4) => {
                let mut small = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: both are plain structures, and the larger one holds the smaller.
                unsafe {
                    std::ptr::copy_nonoverlapping(&raw mut small, (&raw mut storage).cast(), 1);
                }
                Address { storage, length: size_of::<libc::sockaddr_in>() as libc::socklen_t }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn check(bind: &str) {
        let receiver = UdpSocket::bind(bind).unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let sender = UdpSocket::bind(bind).unwrap();
        let datagrams: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; 100 + usize::from(n)]).collect();
        let sent = send_batch(sender.as_fd(), &receiver.local_addr().unwrap(), &datagrams).unwrap();
        assert_eq!(sent, 5);
        for expected in &datagrams {
            let mut buffer = [0; 200];
            let (length, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&expected[..], sender.local_addr().unwrap()));
        }
    }

    #[test]
    fn a_batch_arrives_in_order_over_both_families() {
        check("127.0.0.1:0");
        check("[::1]:0");
    }
}
