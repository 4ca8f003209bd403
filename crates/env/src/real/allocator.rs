//! How the C library's allocator keeps what is freed (docs/adr/0012).

/// Larger pieces are the system's, and go back to it when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 128 << 10;
/// So much may be free at the end of an arena before it shrinks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_AT_THE_END: libc::c_int = 256 << 10;

/// Keeps glibc from raising its threshold for mapped memory with every large piece that is freed, up to 32 MB: buffers of a
/// snapshot would then be cut from the arenas of threads that come and go, and leave holes in them. Who has tuned it himself
/// (`GLIBC_TUNABLES`) is left alone; other allocators give back by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn settle() {
    if std::env::var_os("GLIBC_TUNABLES").is_some() {
        return;
    }
    // SAFETY: sets two numbers under the allocator's own lock; may be called at any time. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_AT_THE_END);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn settle() {}

/// To be called before each hundred kilobytes or so of small pieces that a thread allocates to keep. An arena of glibc grows by what a
/// piece needs, so by a call to the system for every 4 KB; this has it grow once.
pub fn grow_arena() {
    // As large as a piece can be that comes from the arena; given back at once, it is the arena's end, where the next ones are cut from.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(120 << 10)));
}
