//! Fetches what is needed next while something else is worked on.
//!
//! Between two of its turns a connection leaves the processor's caches, because all others had theirs. One after the other, as
//! its code comes to need them, the lines that an object needs of a subscriber cost more time than all else that is done for
//! it; asked for together and ahead, they come while the subscriber before is served.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the processor's instruction has no safe wrapper; it reads and changes nothing")
)]

/// What a processor fetches at once, in bytes.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Asks for the first bytes of a value. On processors for which Rust has no such instruction, it does nothing.
#[inline]
pub(crate) fn prefetch<T>(value: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        for offset in (0..bytes.min(size_of::<T>())).step_by(LINE_BYTES) {
            // SAFETY: The address is inside the value, and the instruction only hints at it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, bytes);
}
