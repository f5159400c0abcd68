//! All that another process holds in its memory, and which of many words are in it.

use std::{
    fs::{self, File},
    io::ErrorKind,
    ops::Range,
    os::unix::fs::FileExt,
};

use aho_corasick::AhoCorasick;
use anyhow::{Context, bail};

const PAGE_BYTES: usize = 4096;
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
/// Read at once; a multiple of the page.
const READ_BYTES: usize = 256 * PAGE_BYTES;
/// What the kernel lends to every process and lets nobody read through the process: clocks and old system calls.
const OF_THE_KERNEL: &[&str] = &["[vvar]", "[vvar_vclock]", "[vsyscall]"];

/// Bytes that hold something, in stretches: what is contiguous in the address space is one stretch, so that no word is
/// cut where two reads or two mappings meet. Pages of zeros only are left out.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stretches: Vec<Vec<u8>>,
    /// Where the last stretch ends.
    end: u64,
}

impl Memory {
    /// Everything that `process` can read of its own memory: heap, stacks, globals, program and libraries. The process
    /// runs on meanwhile. It must be a descendant of ours or we must be root, else the kernel forbids it.
    ///
    /// # Errors
    /// If the kernel forbids it, the process ends, or a part of its memory cannot be read: a search that leaves
    /// something out proves nothing.
    pub(super) fn of_process(process: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{process}/mem");
        let file = File::open(&path).with_context(|| forbidden(process))?;
        let mut memory = Self::default();
        let mut unread = Vec::new();
        for mapping in mappings(process)? {
            memory.read(&file, mapping, &mut unread).with_context(|| forbidden(process))?;
        }
        if !unread.is_empty() {
            // Memory that it has given back in between is no gap.
            let still_there = mappings(process)?;
            unread.retain(|page| still_there.iter().any(|mapping| mapping.contains(page)));
        }
        if !unread.is_empty() {
            bail!("{path}: {} pages cannot be read, so nobody can say what they hold", unread.len());
        }
        if memory.stretches.is_empty() {
            bail!("{path}: empty; has the process ended?");
        }
        Ok(memory)
    }

    /// A text or file, to be searched in the same way.
    pub(super) fn of_bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self { stretches: vec![bytes.as_ref().to_vec()], end: 0 }
    }

    /// How many bytes there are to search.
    pub(super) fn bytes(&self) -> usize {
        self.stretches.iter().map(Vec::len).sum()
    }

    fn read(&mut self, file: &File, mapping: Range<u64>, unread: &mut Vec<u64>) -> std::io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut at = mapping.start;
        while at < mapping.end {
            let wanted = READ_BYTES.min((mapping.end - at) as usize);
            match file.read_at(&mut buffer[..wanted], at) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
                Ok(0) | Err(_) => {
                    unread.push(at);
                    at += PAGE_BYTES as u64;
                }
                Ok(length) => {
                    self.add(at, &buffer[..length]);
                    at += length as u64;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, mut at: u64, bytes: &[u8]) {
        for page in bytes.chunks(PAGE_BYTES) {
            if *page != ZEROS[..page.len()] {
                match self.stretches.last_mut() {
                    Some(stretch) if self.end == at => stretch.extend_from_slice(page),
                    _ => self.stretches.push(page.to_vec()),
                }
                self.end = at + page.len() as u64;
            }
            at += page.len() as u64;
        }
    }
}

/// Many words, to be found in one pass.
#[derive(Debug)]
pub(super) struct Finder {
    automaton: AhoCorasick,
}

impl Finder {
    /// Makes one for `words`.
    ///
    /// # Errors
    /// If they are too many, or one is empty and would be everywhere.
    pub(super) fn new<W: AsRef<[u8]>>(words: &[W]) -> anyhow::Result<Self> {
        if words.iter().any(|word| word.as_ref().is_empty()) {
            bail!("a word to be searched for is empty");
        }
        Ok(Self { automaton: AhoCorasick::new(words).context("too many words to be searched for")? })
    }

    /// How often each word is there, in the words' order; places may overlap.
    pub(super) fn counts(&self, memory: &Memory) -> Vec<usize> {
        let mut counts = vec![0; self.automaton.patterns_len()];
        for stretch in &memory.stretches {
            for found in self.automaton.find_overlapping_iter(stretch) {
                counts[found.pattern().as_usize()] += 1;
            }
        }
        counts
    }
}

/// The address ranges that `process` may read and that are its own.
fn mappings(process: u32) -> anyhow::Result<Vec<Range<u64>>> {
    let path = format!("/proc/{process}/maps");
    let text = fs::read_to_string(&path).with_context(|| forbidden(process))?;
    text.lines().filter_map(|line| mapping(line).with_context(|| format!("{path}: {line}")).transpose()).collect()
}

/// A line such as `7f00-7f10 r--p 0000 08:01 42   /lib/libc.so`; `None` if there is nothing to read.
fn mapping(line: &str) -> anyhow::Result<Option<Range<u64>>> {
    let mut fields = line.split_whitespace();
    let range = fields.next().and_then(|range| range.split_once('-')).context("no address range")?;
    let permissions = fields.next().context("no permissions")?;
    let name = fields.nth(3).unwrap_or_default();
    if !permissions.starts_with('r') || OF_THE_KERNEL.contains(&name) {
        return Ok(None);
    }
    Ok(Some(u64::from_str_radix(range.0, 16)?..u64::from_str_radix(range.1, 16)?))
}

fn forbidden(process: u32) -> String {
    format!(
        "cannot read the memory of process {process}, so nothing is known about what it holds (the kernel allows it \
         for one's own children unless kernel.yama.ptrace_scope is above 1 or a container takes ptrace away)"
    )
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    const WORD: &[u8] = b"a planted word, 24 bytes";

    /// Killed when dropped.
    struct Holder(Child);

    impl Drop for Holder {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A shell that keeps `word` in a variable that no environment or command line has, once it has read it.
    fn holder(word: &str) -> Holder {
        use std::io::{BufRead, BufReader, Write};
        let mut command = Command::new("sh");
        command.args(["-c", "read -r kept; echo ready; read -r end"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("there is a shell");
        let mut stdin = child.stdin.take().expect("piped");
        writeln!(stdin, "{word}").expect("it reads");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("it answers");
        assert_eq!(ready, "ready\n");
        child.stdin = Some(stdin);
        Holder(child)
    }

    #[test]
    fn a_word_that_a_process_keeps_is_found_in_it_and_in_no_other() {
        let word = String::from_utf8_lossy(WORD);
        let (guilty, innocent) = (holder(&word), holder("nothing of interest"));
        let finder = Finder::new(&[WORD, b"/sh"]).expect("two words");
        let found = |holder: &Holder| finder.counts(&Memory::of_process(holder.0.id()).expect("our own child"));
        assert!(found(&guilty)[0] > 0, "it holds the word");
        let counts = found(&innocent);
        assert_eq!(counts[0], 0, "it does not");
        assert!(counts[1] > 0, "but its memory was searched: every shell knows its own path");
    }

    #[test]
    fn words_are_found_across_reads_pages_and_neighbouring_mappings() {
        let mut space = vec![7; 2 * READ_BYTES];
        for border in [PAGE_BYTES, READ_BYTES] {
            space[border - 11..border - 11 + WORD.len()].copy_from_slice(WORD);
        }
        let finder = Finder::new(&[WORD]).expect("one word");
        let (first, second) = space.split_at(READ_BYTES);
        let mut memory = Memory::default();
        memory.add(0x1000, first);
        memory.add(0x1000 + READ_BYTES as u64, second);
        assert_eq!(memory.stretches.len(), 1);
        assert_eq!(finder.counts(&memory), [2]);

        let mut apart = Memory::default();
        apart.add(0x1000, first);
        apart.add(0x2000 + READ_BYTES as u64, second);
        assert_eq!(finder.counts(&apart), [1], "what is far apart is no word");
    }

    #[test]
    fn pages_of_zeros_are_left_out_and_what_stands_beside_them_is_not() {
        let mut space = vec![0; 5 * PAGE_BYTES];
        space[2 * PAGE_BYTES..2 * PAGE_BYTES + WORD.len()].copy_from_slice(WORD);
        space[4 * PAGE_BYTES + 100..4 * PAGE_BYTES + 100 + WORD.len()].copy_from_slice(WORD);
        let mut memory = Memory::default();
        memory.add(0, &space);
        assert_eq!(memory.bytes(), 2 * PAGE_BYTES);
        assert_eq!(Finder::new(&[WORD]).expect("one word").counts(&memory), [2]);
    }

    #[test]
    fn a_process_that_has_ended_or_never_was_is_an_error() {
        let mut holder = holder("x");
        holder.0.kill().expect("it runs");
        let started = Instant::now();
        while Memory::of_process(holder.0.id()).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(20), "it has been killed");
            thread::sleep(Duration::from_millis(10));
        }
        let error = Memory::of_process(u32::MAX).expect_err("no such process");
        assert!(error.to_string().starts_with("cannot read the memory of process"));
    }

    #[test]
    fn only_what_a_process_can_read_and_owns_is_read() {
        let read = |line| mapping(line).expect("a mapping");
        assert_eq!(read("1000-3000 rw-p 00000000 00:00 0   [heap]"), Some(0x1000..0x3000));
        assert_eq!(read("1000-3000 r--p 00000000 08:01 42"), Some(0x1000..0x3000));
        assert_eq!(read("1000-3000 ---p 00000000 00:00 0"), None);
        assert_eq!(read("1000-3000 r--p 00000000 00:00 0   [vvar]"), None);
        mapping("garbage").expect_err("no mapping");
    }

    #[test]
    fn an_empty_word_is_refused() {
        Finder::new(&[""]).expect_err("it would be everywhere");
    }
}
