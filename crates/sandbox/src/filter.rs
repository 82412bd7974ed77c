//! The system call filter: everything that a game needs stays, administration and rarely used attack surface goes.
//!
//! A list of what is refused, not of what is allowed: games, drivers and Wine use a wide and changing part of the
//! kernel, and a missing call shows as a crash that nobody understands. What is refused is what the kernel would mostly
//! refuse anyway without capabilities, plus whatever has been a way out of containers.
//!
//! Programs are classic BPF, written here rather than by a library, because Wine needs two architectures in one filter.

use libc::c_long;

use crate::settings::Syscalls;
use crate::sys::Instruction;

/// Namespaces that `clone` must not make: user and all others.
const NAMESPACE_FLAGS: u32 = 0x7E02_0080;

const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const TIOCSETD: u32 = 0x5423;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7FFF_0000;
const KILL: u32 = 0x8000_0000;

/// Offsets in `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
/// 32-bit programs on the same processor.
#[cfg(target_arch = "x86_64")]
const COMPATIBLE: u32 = 0x4000_0003;
#[cfg(target_arch = "aarch64")]
const COMPATIBLE: u32 = 0x4000_0028;

/// Numbers of one architecture.
struct Table {
    /// Answered "not permitted".
    refused: Vec<u32>,
    /// Answered "not implemented", so that libraries take their older way.
    absent: Vec<u32>,
    clone: u32,
    socket: u32,
    ioctl: u32,
}

/// The filter's program.
pub(crate) fn program(syscalls: Syscalls) -> Vec<Instruction> {
    let native = native_table(syscalls);
    let mut native = native.program();
    // x32: 64-bit calls under other numbers.
    #[cfg(target_arch = "x86_64")]
    native.splice(1..1, [jump(JUMP_AT_LEAST, 0x4000_0000, 0, 1), give(refusal(libc::ENOSYS))]);
    let mut program = vec![load(ARCHITECTURE), jump(JUMP_EQUAL, NATIVE, 1, 0), skip(native.len())];
    program.append(&mut native);
    match syscalls {
        Syscalls::Native => program.push(give(KILL)),
        Syscalls::Wine => {
            program.extend([jump(JUMP_EQUAL, COMPATIBLE, 1, 0), give(KILL)]);
            program.extend(compatible_table().program());
        }
    }
    program
}

impl Table {
    fn program(&self) -> Vec<Instruction> {
        let mut program = vec![load(NUMBER)];
        let mut answer =
            |number: u32, error: i32| program.extend([jump(JUMP_EQUAL, number, 0, 1), give(refusal(error))]);
        self.refused.iter().for_each(|number| answer(*number, libc::EPERM));
        self.absent.iter().for_each(|number| answer(*number, libc::ENOSYS));
        program.extend([
            jump(JUMP_EQUAL, self.clone, 0, 4),
            load(ARGUMENTS),
            jump(JUMP_ANY_BIT, NAMESPACE_FLAGS, 0, 1),
            give(refusal(libc::EPERM)),
            give(ALLOW),
        ]);
        let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(i32::cast_unsigned);
        program.extend([
            jump(JUMP_EQUAL, self.socket, 0, 7),
            load(ARGUMENTS),
            jump(JUMP_EQUAL, families[0], 4, 0),
            jump(JUMP_EQUAL, families[1], 3, 0),
            jump(JUMP_EQUAL, families[2], 2, 0),
            jump(JUMP_EQUAL, families[3], 1, 0),
            give(refusal(libc::EAFNOSUPPORT)),
            give(ALLOW),
        ]);
        program.extend([
            jump(JUMP_EQUAL, self.ioctl, 0, 6),
            load(ARGUMENTS + 8),
            jump(JUMP_EQUAL, TIOCSTI, 2, 0),
            jump(JUMP_EQUAL, TIOCLINUX, 1, 0),
            jump(JUMP_EQUAL, TIOCSETD, 0, 1),
            give(refusal(libc::EPERM)),
            give(ALLOW),
            give(ALLOW),
        ]);
        program
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}

/// Compares what was loaded and skips that many instructions.
fn jump(code: u16, value: u32, when_true: u8, when_false: u8) -> Instruction {
    Instruction { code, jt: when_true, jf: when_false, k: value }
}

fn skip(count: usize) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: u32::try_from(count).unwrap_or(u32::MAX) }
}

fn give(action: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: action }
}

fn refusal(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error.cast_unsigned()
}

fn numbers(list: &[c_long]) -> Vec<u32> {
    list.iter().filter_map(|number| u32::try_from(*number).ok()).collect()
}

fn native_table(syscalls: Syscalls) -> Table {
    let mut refused = numbers(&[
        // Mounts.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        // Namespaces.
        libc::SYS_unshare,
        libc::SYS_setns,
        // Files by handle reach outside a mount.
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_fanotify_init,
        // The machine.
        libc::SYS_reboot,
        libc::SYS_kexec_load,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_kexec_file_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_syslog,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_vhangup,
        libc::SYS_nfsservctl,
        // Kernel interfaces with a long record of holes.
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_lookup_dcookie,
        // Descriptors of other processes.
        libc::SYS_pidfd_getfd,
    ]);
    #[cfg(target_arch = "x86_64")]
    refused.extend(numbers(&[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib, libc::SYS_ustat, libc::SYS__sysctl]));
    if syscalls == Syscalls::Native {
        refused.extend(numbers(&[libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev]));
        #[cfg(target_arch = "x86_64")]
        refused.extend(numbers(&[libc::SYS_modify_ldt]));
    }
    Table {
        refused,
        absent: numbers(&[
            // Its flags are in memory, where a filter cannot look: libraries fall back to `clone`.
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_memfd_secret,
        ]),
        clone: u32::try_from(libc::SYS_clone).unwrap_or(u32::MAX),
        socket: u32::try_from(libc::SYS_socket).unwrap_or(u32::MAX),
        ioctl: u32::try_from(libc::SYS_ioctl).unwrap_or(u32::MAX),
    }
}

/// The same for 32-bit x86. `ptrace` and `modify_ldt` stay: Wine needs them. So does `socketcall`, which hides its
/// family from the filter; old 32-bit libraries know no other way.
#[cfg(target_arch = "x86_64")]
fn compatible_table() -> Table {
    Table {
        refused: vec![
            21, 22, 52, 61, 217, 428, 429, 430, 431, 432, 433, 442, // mounts
            310, 346, // namespaces
            341, 342, 338, // handles, fanotify
            88, 283, 128, 129, 350, 87, 115, 51, 103, 131, 443, // machine: reboot to quotactl_fd
            79, 25, 264, 404, 343, 405, 124, 74, 121, 111, 169, // machine: clocks, names, vhangup, nfsservctl
            288, 286, 287, 357, 336, 374, 253, 438, // keys, bpf, perf, userfaultfd, dcookie, pidfd_getfd
            110, 101, 86, 62, 149, 113, 166, // iopl, ioperm, uselib, ustat, sysctl, vm86old, vm86
        ],
        absent: vec![435, 425, 426, 427, 447],
        clone: 120,
        socket: 359,
        ioctl: 54,
    }
}

/// The same for 32-bit ARM.
#[cfg(target_arch = "aarch64")]
fn compatible_table() -> Table {
    Table {
        refused: vec![
            21, 52, 61, 218, 428, 429, 430, 431, 432, 433, 442, 337, 375, 370, 371, 367, 88, 347, 128, 129, 379, 87,
            115, 51, 103, 131, 443, 79, 262, 404, 372, 405, 124, 74, 121, 111, 169, 311, 309, 310, 386, 364, 388, 249,
            438,
        ],
        absent: vec![435, 425, 426, 427, 447],
        clone: 120,
        socket: 281,
        ioctl: 54,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: &[u32]) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let branch = |condition: bool| usize::from(if condition { jt } else { jf });
            match code {
                LOAD_WORD if k == NUMBER => accumulator = number,
                LOAD_WORD if k == ARCHITECTURE => accumulator = architecture,
                LOAD_WORD => accumulator = arguments.get((k as usize - 16) / 8).copied().unwrap_or(0),
                JUMP_EQUAL => at += branch(accumulator == k),
                JUMP_AT_LEAST => at += branch(accumulator >= k),
                JUMP_ANY_BIT => at += branch(accumulator & k != 0),
                JUMP => at += k as usize,
                RETURN => return k,
                _ => panic!("unknown instruction {code}"),
            }
        }
    }

    fn check(syscalls: Syscalls, architecture: u32, number: c_long, arguments: &[u32], expected: u32) {
        let program = program(syscalls);
        assert!(program.len() < 4096);
        let got = run(&program, architecture, u32::try_from(number).unwrap(), arguments);
        assert_eq!(got, expected, "call {number} of {architecture:#x}");
    }

    #[test]
    fn what_is_refused_and_what_is_not() {
        let native = |number, arguments: &[u32], expected| check(Syscalls::Native, NATIVE, number, arguments, expected);
        native(libc::SYS_read, &[], ALLOW);
        native(libc::SYS_mount, &[], refusal(libc::EPERM));
        native(libc::SYS_ptrace, &[], refusal(libc::EPERM));
        native(libc::SYS_clone3, &[], refusal(libc::ENOSYS));
        native(libc::SYS_clone, &[0x003D_0F00], ALLOW);
        native(libc::SYS_clone, &[0x1000_0011], refusal(libc::EPERM));
        native(libc::SYS_clone, &[0x0002_0011], refusal(libc::EPERM));
        native(libc::SYS_socket, &[libc::AF_UNIX as u32], ALLOW);
        native(libc::SYS_socket, &[libc::AF_INET6 as u32], ALLOW);
        native(libc::SYS_socket, &[libc::AF_NETLINK as u32], ALLOW);
        native(libc::SYS_socket, &[libc::AF_PACKET as u32], refusal(libc::EAFNOSUPPORT));
        native(libc::SYS_socket, &[libc::AF_ALG as u32], refusal(libc::EAFNOSUPPORT));
        native(libc::SYS_ioctl, &[0, TIOCSTI], refusal(libc::EPERM));
        native(libc::SYS_ioctl, &[0, TIOCLINUX], refusal(libc::EPERM));
        native(libc::SYS_ioctl, &[0, TIOCSETD], refusal(libc::EPERM));
        native(libc::SYS_ioctl, &[0, 0x5413], ALLOW);
        native(libc::SYS_exit_group, &[], ALLOW);
    }

    #[test]
    fn other_architectures_are_wines_alone() {
        check(Syscalls::Native, COMPATIBLE, 1, &[], KILL);
        check(Syscalls::Wine, COMPATIBLE, 4, &[], ALLOW);
        check(Syscalls::Wine, COMPATIBLE, 21, &[], refusal(libc::EPERM));
        check(Syscalls::Wine, COMPATIBLE, 120, &[0x1000_0011], refusal(libc::EPERM));
        check(Syscalls::Wine, NATIVE, libc::SYS_ptrace, &[], ALLOW);
        check(Syscalls::Wine, NATIVE, libc::SYS_mount, &[], refusal(libc::EPERM));
        check(Syscalls::Wine, 0x1234, 4, &[], KILL);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_with_the_x32_bit_do_not_slip_by() {
        check(Syscalls::Native, NATIVE, 0x4000_0000 + libc::SYS_mount, &[], refusal(libc::ENOSYS));
    }
}
