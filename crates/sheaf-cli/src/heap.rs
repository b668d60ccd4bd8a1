//! How this process gives memory back to the operating system.
//!
//! Invariant: a buffer of megabytes leaves the process when it is freed. The GNU C library raises
//! by itself the size from which on it does that, up to 32 MiB, to that of the largest buffer that
//! was ever freed; buffers below are cut out of one heap then, whose holes nobody gets back. A
//! program that moves pages through such buffers takes twice the memory that it uses. Leaves out
//! other allocators, which do no such thing.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the allocator's settings are a C function")
)]

/// Bytes from which on a buffer is mapped by itself: the library's own value at first.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: i32 = 128 * 1024;

/// Keeps that size where it is.
pub(crate) fn keep_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes two numbers and changes a setting of the allocator; no other thread runs yet.
    // What it answers is no matter: a library without the setting works as before.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
    }
}
