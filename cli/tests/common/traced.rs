//! Runs a command and stops it before each system call that changes the file system, in order to count them
//! or to kill it there. A seccomp filter picks the calls, so that all others run at full speed; `ptrace` sees
//! those that are picked. Both need no privilege.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_int, c_long, pid_t,
};
use libc::{sock_filter, sock_fprog};

/// How a traced command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Exited(i32),
    /// By a signal.
    Killed,
}

/// Calls that change the file system whatever their arguments; `write` and `openat` are looked at more
/// closely.
const CALLS: &[c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
];

/// Where `seccomp_data` has the number of a call, and the low half of an argument.
const NUMBER: u32 = 0;
fn argument(i: u32) -> u32 {
    16 + 8 * i + if cfg!(target_endian = "big") { 4 } else { 0 }
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(test: u32, k: u32, jt: usize, jf: usize) -> sock_filter {
    sock_filter { code: (BPF_JMP | test | BPF_K) as u16, jt: jt as u8, jf: jf as u8, k }
}

fn answer(k: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k }
}

/// Trace [`CALLS`], writes to files (descriptors from 3 on) and the opening of new files; allow everything
/// else.
fn filter() -> Vec<sock_filter> {
    let n = CALLS.len();
    let mut program = vec![load(NUMBER)];
    // Behind the calls: two tests, `allow`, three instructions on writes, three on opening, `trace`.
    for (i, &call) in CALLS.iter().enumerate() {
        program.push(jump(BPF_JEQ, call as u32, n - i - 1 + 2 + 1 + 2 + 2 + 1, 0));
    }
    program.push(jump(BPF_JEQ, libc::SYS_write as u32, 2, 0));
    program.push(jump(BPF_JEQ, libc::SYS_openat as u32, 3, 0));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(load(argument(0)));
    program.push(jump(BPF_JGT, 2, 3, 2));
    program.push(load(argument(2)));
    program.push(jump(BPF_JSET, libc::O_CREAT as u32, 1, 0));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(answer(libc::SECCOMP_RET_TRACE));
    program
}

fn checked(outcome: c_long) -> io::Result<()> {
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs the command to its end, or kills it right before its `kill_at`-th call, counted from 1. Returns how
/// it ended, and the calls that it came to. Its output is thrown away.
pub(crate) fn run(mut command: Command, kill_at: Option<usize>) -> (End, usize) {
    let program = filter();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let prepare = move || {
        let program = sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: system calls on this process alone, between fork and exec; the filter outlives the last of
        // them, which copies it.
        unsafe {
            checked(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
            checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            checked(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program).into())
        }
    };
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    #[allow(clippy::zombie_processes, reason = "`follow` waits for it, with all its threads")]
    let child = command.spawn().expect("the program starts under ptrace");
    follow(child.id() as pid_t, kill_at)
}

/// Lets a child that has just begun to run go on from stop to stop.
fn follow(child: pid_t, kill_at: Option<usize>) -> (End, usize) {
    let options = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    let mut is_prepared = false;
    let mut calls = 0;
    loop {
        let mut status: c_int = 0;
        // SAFETY: waits for children of this thread and writes a number.
        let who = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(who > 0, "waitpid: {}", io::Error::last_os_error());
        if !libc::WIFSTOPPED(status) {
            match who == child {
                true if libc::WIFEXITED(status) => return (End::Exited(libc::WEXITSTATUS(status)), calls),
                true => return (End::Killed, calls),
                // A thread.
                false => continue,
            }
        }
        let (stop, event) = (libc::WSTOPSIG(status), status >> 16);
        if !is_prepared {
            // SAFETY: the child has stopped, at the first instruction of the program.
            let set = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, child, 0, options) };
            checked(set).expect("a stopped child takes options");
            is_prepared = true;
        }
        if event == libc::PTRACE_EVENT_SECCOMP {
            calls += 1;
            if kill_at == Some(calls) {
                // SAFETY: the child is ours and not yet waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
                continue;
            }
        }
        // Stops of our own making pass on no signal.
        let is_ours = event != 0 || matches!(stop, libc::SIGTRAP | libc::SIGSTOP);
        let signal = if is_ours { 0 } else { stop };
        // SAFETY: it has stopped, unless it was killed since: then there is nothing to go on with.
        unsafe { libc::ptrace(libc::PTRACE_CONT, who, 0, signal) };
    }
}
