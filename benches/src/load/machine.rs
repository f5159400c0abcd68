//! What a figure depends on besides the programs: the processor, its caches, and how fast it counts and fetches. Two
//! machines of one name can differ by half in either.

use std::{fmt, fs, hint::black_box, path::Path, time::Instant};

use rand::seq::SliceRandom;
use serde::Serialize;

use super::report::About;

/// Sizes between which caches of today end, in KiB: the first level, the second, the third, and none.
const SIZES_KIB: [usize; 4] = [32, 512, 8 * 1024, 128 * 1024];
/// Fetches of a pass; each needs the one before.
const FETCHES: usize = 2_000_000;
/// Operations of a pass; each needs the one before.
const OPERATIONS: u64 = 50_000_000;
/// The best of so many passes is what the machine can do.
const PASSES: usize = 3;
/// A cache line, in words.
const LINE_WORDS: usize = 16;

/// The machine, as this thread sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// As the kernel calls it.
    pub processor: String,
    /// Of this core, such as "L2 2048K".
    pub caches: Vec<String>,
    /// A multiplication, an addition and a shift that need the one before, in ns.
    pub compute_ns: f64,
    /// A fetch that needs the one before, by the memory that they are spread over.
    pub latencies: Vec<Latency>,
}

/// How long memory takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Of memory in use.
    pub kib: usize,
    /// A fetch.
    pub ns: f64,
}

impl Machine {
    /// Takes a second or two of one core, and 128 MiB.
    pub fn measure() -> Self {
        let latencies = SIZES_KIB.iter().map(|kib| Latency { kib: *kib, ns: best(|| fetch(*kib)) }).collect();
        let processor = About::now(&[]).processor;
        Self {
            processor,
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            compute_ns: best(count),
            latencies,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, caches, compute_ns, latencies } = self;
        write!(f, "{processor}; caches {}; an operation {compute_ns:.2} ns, a fetch", caches.join(", "))?;
        for (place, Latency { kib, ns }) in latencies.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma} {ns:.1} ns of {}", size(*kib))?;
        }
        Ok(())
    }
}

fn size(kib: usize) -> String {
    if kib < 1024 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1024) }
}

/// What the kernel says of the caches, smallest first.
fn caches(directory: &Path) -> Vec<String> {
    let of = |index: usize| {
        let read = |name: &str| fs::read_to_string(directory.join(format!("index{index}/{name}"))).ok();
        let (level, kind, size) = (read("level")?, read("type")?, read("size")?);
        let letter = match kind.trim() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        Some(format!("L{}{letter} {}", level.trim(), size.trim()))
    };
    (0..8).map_while(of).collect()
}

fn best(pass: impl Fn() -> f64) -> f64 {
    (0..PASSES).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

fn count() -> f64 {
    let started = Instant::now();
    let mut value = black_box(1_u64);
    for step in 0..OPERATIONS {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step).rotate_left(17);
    }
    black_box(value);
    started.elapsed().as_nanos() as f64 / OPERATIONS as f64
}

/// Follows a ring that visits every cache line of so much memory once, in an order that no prefetcher guesses.
fn fetch(kib: usize) -> f64 {
    let lines = kib * 1024 / (LINE_WORDS * size_of::<u32>());
    let mut order: Vec<usize> = (1..lines).collect();
    order.shuffle(&mut rand::rng());
    let mut next = vec![0_u32; lines * LINE_WORDS];
    let mut from = 0;
    for line in order {
        next[from] = (line * LINE_WORDS) as u32;
        from = line * LINE_WORDS;
    }
    let started = Instant::now();
    let mut at = 0;
    for _ in 0..FETCHES {
        at = next[at] as usize;
    }
    black_box(at);
    started.elapsed().as_nanos() as f64 / FETCHES as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_said_in_one_line() {
        let machine = Machine {
            processor: "Some Processor".to_owned(),
            caches: vec!["L1d 32K".to_owned(), "L2 512K".to_owned()],
            compute_ns: 1.234,
            latencies: vec![Latency { kib: 32, ns: 1.5 }, Latency { kib: 8192, ns: 20.0 }],
        };
        let line =
            "Some Processor; caches L1d 32K, L2 512K; an operation 1.23 ns, a fetch 1.5 ns of 32 KiB, 20.0 ns of 8 MiB";
        assert_eq!(machine.to_string(), line);
    }

    #[test]
    fn caches_are_those_that_the_kernel_lists() {
        let directory = tempfile::tempdir().expect("a directory");
        for (index, [level, kind, size]) in [["1", "Data", "48K"], ["2", "Unified", "2048K"]].iter().enumerate() {
            let path = directory.path().join(format!("index{index}"));
            fs::create_dir(&path).expect("made");
            for (name, value) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(path.join(name), format!("{value}\n")).expect("written");
            }
        }
        assert_eq!(caches(directory.path()), ["L1d 48K", "L2 2048K"]);
        assert!(caches(Path::new("/supernode/no-such-directory")).is_empty());
    }

    #[test]
    fn a_fetch_takes_some_time() {
        assert!(fetch(32) > 0.0 && count() > 0.0);
    }
}
