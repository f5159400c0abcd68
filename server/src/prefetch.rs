//! Fetches what is needed next while something else is worked on.
//!
//! Between two of its turns a connection leaves the processor's caches, because all others had theirs, and it is a hundred
//! lines of memory long. One after the other, as its code comes to need them, they cost more time than all else that is done
//! for a packet; asked for together and ahead, they come while the connection before is served.

#![expect(unsafe_code, reason = "the processor's instruction has no safe wrapper; it reads and changes nothing")]

/// What a processor fetches at once, in bytes: a line of its cache, and the other one of a pair.
#[cfg(target_arch = "x86_64")]
const PAIR_BYTES: usize = 128;

/// Asks for all of a value.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_to(value, size_of::<T>());
}

/// Asks for the first bytes of a value. On processors for which Rust has no such instruction, it does nothing.
#[inline]
pub(crate) fn prefetch_to<T>(value: &T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        for offset in (0..bytes.min(size_of::<T>())).step_by(PAIR_BYTES) {
            // SAFETY: The address is inside the value, and the instruction only hints at it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, bytes);
}
