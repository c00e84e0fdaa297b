//! How this service's threads share a processor, among each other and with others.
//!
//! A thread that wakes pushes aside one that runs only where its slice is the shorter (Linux 6.12: `sched_setattr(2)`, the runtime of a
//! `SCHED_OTHER` task). Answers are short and urgent; what the desktop is told is long and is not. Neither changes how much of the
//! processor a thread gets, but for the nice value. Where the kernel does not know of slices, or a sandbox forbids the call, all is as
//! it was.

use std::io;

/// The shortest that the kernel gives, in nanoseconds. An answer takes some microseconds.
const SHORT: u64 = 100_000;
/// A tenth of what others get where somebody else wants it as well; 19 would be next to nothing.
const LATER: i32 = 10;

/// `struct sched_attr` as it was first (include/uapi/linux/sched/types.h).
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = size_of::<Attributes>() as u32;

/// This thread goes on at once when it wakes, beside whoever takes longer.
///
/// # Errors
/// The kernel's.
pub fn at_once() -> io::Result<()> {
    set(Attributes {
        runtime: SHORT,
        ..get()?
    })
}

/// This thread leaves the processor to others; it has a part of it all the same.
///
/// # Errors
/// The kernel's.
pub fn later() -> io::Result<()> {
    let now = get()?;
    set(Attributes {
        nice: now.nice.max(LATER),
        ..now
    })
}

#[expect(unsafe_code, reason = "sched_getattr has no safe wrapper in rustix")]
fn get() -> io::Result<Attributes> {
    let mut now = Attributes::default();
    // SAFETY: the kernel writes at most `SIZE` bytes, of integers, into a value of that size that lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, SIZE, 0) };
    if result == 0 {
        Ok(now)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[expect(unsafe_code, reason = "sched_setattr has no safe wrapper in rustix")]
fn set(wanted: Attributes) -> io::Result<()> {
    let wanted = Attributes { size: SIZE, ..wanted };
    // SAFETY: the kernel reads as many bytes as the first field says, which is the value's size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_urgent_and_another_is_not_and_both_stay_what_they_were_otherwise() {
        let before = get().unwrap();
        let urgent = std::thread::spawn(|| {
            at_once().unwrap();
            get().unwrap()
        });
        let urgent = urgent.join().unwrap();
        assert_eq!((urgent.policy, urgent.nice), (before.policy, before.nice));
        // kernels before 6.12 say nothing of slices
        assert!([0, SHORT].contains(&urgent.runtime), "{urgent:?}");
        let patient = std::thread::spawn(|| {
            later().unwrap();
            get().unwrap()
        });
        let patient = patient.join().unwrap();
        assert_eq!(
            (patient.policy, patient.nice),
            (before.policy, LATER.max(before.nice))
        );
        assert_eq!(get().unwrap().nice, before.nice, "each thread for itself");
    }
}
