//! A file layer that fails and clocks that run off, loaded before the C library (`LD_PRELOAD`) into an unmodified program of ours, its SQLite included.
//!
//! Owns: the calls that change files below the folders of `LOTSE_FAULTS_UNDER` (separated by `:`), the calls that wait for the disk, and
//! the calls that ask for a time. What goes wrong stands in the file `LOTSE_FAULTS`, shared with the test while the program runs. And, without
//! that file, a quartz that is off: `LOTSE_CLOCK_PPM` parts in a million, for all clocks of the program, from its start on.
//! Never: touches another file or a socket; allocates; takes a lock.
//! Elsewhere: the test's end of the shared file (`lotse_tests::faults`, which holds the same layout).
#![allow(clippy::missing_safety_doc)]

use std::{
    ffi::CStr,
    ptr::{self, null_mut},
    sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, AtomicU64, Ordering::Relaxed},
};

use libc::{
    AT_FDCWD, O_CREAT, c_char, c_int, c_long, c_void, clockid_t, iovec, mode_t, off_t, size_t, ssize_t, time_t,
    timespec, timeval, timezone,
};

/// The shared file, 512 bytes.
#[repr(C)]
struct Shared {
    /// Calls that could have failed so far.
    counted: AtomicU64,
    /// The call of this number fails, once. 0: none.
    fails_at: AtomicU64,
    /// With this error.
    errno: AtomicU64,
    /// How many have failed.
    failed: AtomicU64,
    /// Every fsync and fdatasync takes this much longer, µs.
    sync_delay_us: AtomicU64,
    /// What is added to the time of day, µs, as a signed number.
    clock_shift_us: AtomicU64,
    /// The calls of the clock that were shifted: proof that the program asks here.
    clocked: AtomicU64,
    /// What failed: the call's name and the path, each ended by 0.
    what: [u8; 456],
}

const _: () = assert!(size_of::<Shared>() == 512);

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());
static UNDER: AtomicPtr<c_char> = AtomicPtr::new(null_mut());
const NEW: u8 = 0;
const OPENING: u8 = 1;
const READY: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(NEW);

/// `None` before it is open, and in a program that was not told where.
fn shared() -> Option<&'static Shared> {
    if STATE.load(Relaxed) != READY {
        if STATE.compare_exchange(NEW, OPENING, Relaxed, Relaxed).is_err() {
            return None;
        }
        // SAFETY: C strings; the mapping lives as long as the process.
        unsafe {
            let (file, under) = (libc::getenv(c"LOTSE_FAULTS".as_ptr()), libc::getenv(c"LOTSE_FAULTS_UNDER".as_ptr()));
            if !file.is_null() && !under.is_null() {
                let fd = libc::syscall(libc::SYS_openat, AT_FDCWD, file, libc::O_RDWR | libc::O_CLOEXEC, 0) as c_int;
                if fd >= 0 {
                    let map = libc::mmap(
                        null_mut(),
                        size_of::<Shared>(),
                        libc::PROT_READ | libc::PROT_WRITE,
                        libc::MAP_SHARED,
                        fd,
                        0,
                    );
                    libc::syscall(libc::SYS_close, fd);
                    if map != libc::MAP_FAILED {
                        UNDER.store(under, Relaxed);
                        SHARED.store(map.cast(), std::sync::atomic::Ordering::Release);
                    }
                }
            }
        }
        STATE.store(READY, Relaxed);
    }
    // SAFETY: null, or a mapping of that size that is never taken down; every field is atomic or written once.
    unsafe { SHARED.load(std::sync::atomic::Ordering::Acquire).as_ref() }
}

/// Does the path lie in one of the folders?
fn is_under(path: &[u8]) -> bool {
    let under = UNDER.load(Relaxed);
    if under.is_null() {
        return false;
    }
    // SAFETY: a string of the environment, which this program does not change.
    let folders = unsafe { CStr::from_ptr(under) }.to_bytes();
    folders
        .split(|b| *b == b':')
        .any(|f| !f.is_empty() && path.starts_with(f) && matches!(path.get(f.len()), None | Some(b'/')))
}

/// Counts this call; true when it is the one that fails.
fn hit(name: &CStr, path: &[u8]) -> bool {
    let Some(shared) = shared().filter(|_| is_under(path)) else { return false };
    let number = shared.counted.fetch_add(1, Relaxed) + 1;
    if number != shared.fails_at.load(Relaxed) {
        return false;
    }
    let name = name.to_bytes_with_nul();
    let fits = path.len().min(shared.what.len() - name.len() - 1);
    // SAFETY: both pieces fit, and only the one call of that number writes here.
    unsafe {
        let to = shared.what.as_ptr().cast_mut();
        ptr::copy_nonoverlapping(name.as_ptr(), to, name.len());
        ptr::copy_nonoverlapping(path.as_ptr(), to.add(name.len()), fits);
        *to.add(name.len() + fits) = 0;
        *libc::__errno_location() = shared.errno.load(Relaxed) as c_int;
    }
    shared.failed.fetch_add(1, Relaxed);
    true
}

/// The name that the kernel has for an open file; empty where it has none.
fn path_of(fd: c_int, path: &mut [u8; 512]) -> &[u8] {
    if fd < 0 || shared().is_none() {
        return &[];
    }
    let mut link = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    let digits = fd.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = fd;
    for place in link[14..14 + digits].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: a C string, and a buffer of the length that is said.
    let got = unsafe {
        let errno = *libc::__errno_location();
        let got = libc::syscall(libc::SYS_readlinkat, AT_FDCWD, link.as_ptr(), path.as_mut_ptr(), path.len());
        *libc::__errno_location() = errno;
        got
    };
    path.get(..usize::try_from(got).unwrap_or(0)).unwrap_or_default()
}

/// The same for an open file.
fn hit_open(name: &CStr, fd: c_int) -> bool {
    let mut path = [0; 512];
    hit(name, path_of(fd, &mut path))
}

unsafe fn hit_path(name: &CStr, path: *const c_char) -> bool {
    // SAFETY: the caller of the C function gave a C string.
    !path.is_null() && hit(name, unsafe { CStr::from_ptr(path) }.to_bytes())
}

fn slow(fd: c_int) {
    let delay_us = shared().map_or(0, |s| s.sync_delay_us.load(Relaxed));
    if delay_us > 0 && is_under(path_of(fd, &mut [0; 512])) {
        let time =
            timespec { tv_sec: (delay_us / 1_000_000) as time_t, tv_nsec: (delay_us % 1_000_000) as c_long * 1000 };
        // SAFETY: only reads `time`.
        unsafe { libc::nanosleep(&time, null_mut()) };
    }
}

unsafe fn openat_(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as the caller of the C function promised.
    unsafe {
        if flags & O_CREAT != 0 && hit_path(c"open", path) {
            return -1;
        }
        libc::syscall(libc::SYS_openat, dir, path, flags, mode) as c_int
    }
}

// The C library's functions, by their names. Variadic ones are taken with all their arguments: both ABIs pass them in registers.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { openat_(AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { openat_(AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { openat_(dir, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { openat_(dir, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    if hit_open(c"write", fd) {
        return -1;
    }
    unsafe { libc::syscall(libc::SYS_write, fd, bytes, count) as ssize_t }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if hit_open(c"writev", fd) {
        return -1;
    }
    unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) as ssize_t }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    if hit_open(c"pwrite", fd) {
        return -1;
    }
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, at) as ssize_t }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    unsafe { pwrite(fd, bytes, count, at) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    if hit_open(c"fsync", fd) {
        return -1;
    }
    slow(fd);
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    if hit_open(c"fdatasync", fd) {
        return -1;
    }
    slow(fd);
    unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    if hit_open(c"ftruncate", fd) {
        return -1;
    }
    unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    unsafe { ftruncate(fd, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    unsafe {
        if hit_path(c"rename", to) {
            return -1;
        }
        libc::syscall(libc::SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    unsafe {
        if hit_path(c"mkdir", path) {
            return -1;
        }
        libc::syscall(libc::SYS_mkdirat, AT_FDCWD, path, mode) as c_int
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    unsafe {
        if hit_path(c"unlink", path) {
            return -1;
        }
        libc::syscall(libc::SYS_unlinkat, AT_FDCWD, path, 0) as c_int
    }
}

// Time.

/// What is to be added to the time of day, µs.
fn shift_us() -> i64 {
    let Some(shared) = shared() else { return 0 };
    let shift = shared.clock_shift_us.load(Relaxed) as i64;
    if shift != 0 {
        shared.clocked.fetch_add(1, Relaxed);
    }
    shift
}

/// `i64::MIN`: not read yet.
static PPM: AtomicI64 = AtomicI64::new(i64::MIN);
/// What CLOCK_MONOTONIC said when it was first asked, ns; 0: not yet.
static START_NS: AtomicI64 = AtomicI64::new(0);

/// How far the quartz is off by now, ns.
fn drift_ns() -> i64 {
    let mut ppm = PPM.load(Relaxed);
    if ppm == i64::MIN {
        // SAFETY: C strings.
        ppm = unsafe {
            let said = libc::getenv(c"LOTSE_CLOCK_PPM".as_ptr());
            if said.is_null() { 0 } else { libc::atol(said) }
        };
        PPM.store(ppm, Relaxed);
    }
    if ppm == 0 {
        return 0;
    }
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    let now = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    let start = START_NS.compare_exchange(0, now, Relaxed, Relaxed).map_or_else(|start| start, |_| now);
    (now - start) / 1_000 * ppm / 1_000
}

/// The time of day, shifted and drifted, µs.
fn now_us() -> i64 {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000 + shift_us() + drift_ns() / 1000
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    unsafe {
        let got = libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int;
        if got != 0 || time.is_null() {
            return got;
        }
        let added = match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
                i128::from(shift_us()) * 1000 + i128::from(drift_ns())
            }
            libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_BOOTTIME => {
                i128::from(drift_ns())
            }
            _ => 0,
        };
        if added != 0 {
            let ns = i128::from((*time).tv_sec) * 1_000_000_000 + i128::from((*time).tv_nsec) + added;
            (*time).tv_sec = ns.div_euclid(1_000_000_000) as time_t;
            (*time).tv_nsec = ns.rem_euclid(1_000_000_000) as c_long;
        }
        got
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, _: *mut timezone) -> c_int {
    let now = now_us();
    if !time.is_null() {
        unsafe {
            (*time).tv_sec = now.div_euclid(1_000_000);
            (*time).tv_usec = now.rem_euclid(1_000_000);
        }
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(place: *mut time_t) -> time_t {
    let now = now_us().div_euclid(1_000_000);
    if !place.is_null() {
        unsafe { *place = now };
    }
    now
}
