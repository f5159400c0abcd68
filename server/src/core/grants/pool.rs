//! Bytes of one kind that the whole relay keeps: those who keep them share what is left.
//!
//! Whoever keeps little always may, where a pool has a floor. More is a part of what all others leave free: so nobody can
//! take everything, and nobody is cut for what others keep.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What anybody may keep of the tables, however full they are: it is counted with the session itself.
pub const FLOOR_BYTES: usize = 8 * 1024;
/// One keeps no more than this part of what is free.
const FREE_PART: usize = 16;

/// All that is kept of one kind.
#[derive(Debug, Default, Clone)]
pub struct Pool {
    used: Arc<AtomicUsize>,
    floor: usize,
}

/// What one of them keeps; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    pool: Pool,
}

impl Pool {
    /// One of which anybody may have so much, however full it is.
    pub fn with_floor(floor: usize) -> Self {
        Self { used: Arc::default(), floor }
    }

    /// Bytes that are kept now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// For somebody who keeps nothing yet.
    pub fn share(&self) -> Share {
        Share { bytes: 0, pool: self.clone() }
    }
}

impl Share {
    /// The most that it may be.
    pub fn bytes_max(&self, pool_max: u64) -> usize {
        let others = self.pool.used().saturating_sub(self.bytes);
        let free = usize::try_from(pool_max).unwrap_or(usize::MAX).saturating_sub(others);
        self.pool.floor.max(free / FREE_PART)
    }

    /// It is so large now.
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            // Wraps around to less.
            self.pool.used.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
            self.bytes = bytes;
        }
    }

    /// Takes as much as is wanted, or as there is; returns how much that is.
    pub fn take(&mut self, wanted: usize, pool_max: u64) -> usize {
        let granted = wanted.min(self.bytes_max(pool_max));
        self.set(granted);
        granted
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn whoever_takes_all_it_can_leaves_something_and_gives_it_back() {
        let pool = Pool::with_floor(FLOOR_BYTES);
        let mut shares: Vec<Share> = (0..200).map(|_| pool.share()).collect();
        let taken: Vec<usize> = shares.iter_mut().map(|share| share.take(1 << 20, 16 << 20)).collect();
        assert_eq!((taken[0], taken[1]), (1 << 20, 15 << 16));
        assert!(taken.iter().all(|bytes| *bytes >= FLOOR_BYTES), "a little is there for everybody");
        assert!(pool.used() <= (16 << 20) + 200 * FLOOR_BYTES, "{}", pool.used());
        assert_eq!(shares[0].bytes_max(16 << 20), FLOOR_BYTES.max(((16 << 20) - (pool.used() - taken[0])) / 16));
        shares.clear();
        assert_eq!(pool.used(), 0);
        let without = Pool::default();
        let mut shares: Vec<Share> = (0..200).map(|_| without.share()).collect();
        for share in &mut shares {
            share.take(1 << 20, 16 << 20);
        }
        assert!(without.used() <= 16 << 20, "{}", without.used());
    }
}
