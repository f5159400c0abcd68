//! Reading the files that an operator names, without waiting for ever.
//!
//! A name may be a FIFO that nobody writes to, or lie on a mount whose server is gone. So only regular files are read, no
//! more of them than makes sense, and by a thread of its own for which nobody waits longer than [`PATIENCE`].

use std::{
    collections::HashSet,
    fs::{Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;

/// How long a file may take to be there: what is on a disk takes milliseconds, also under load.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Files for which a thread waits still: there is never a second one for the same.
static AWAITED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

/// What is in a regular file, at most so many bytes.
///
/// # Errors
/// What the system says, in words that need only the file's name in front.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    patiently(path, move |path| {
        // Or the opening of a FIFO waits for somebody who writes.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        is_regular(&file.metadata()?)?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is longer than {bytes_max} bytes")));
        }
        Ok(bytes)
    })
}

/// As [`read`], of a file that is text.
///
/// # Errors
/// As there.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not text"))
}

/// What the system knows of a file; links are followed.
///
/// # Errors
/// What the system says.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    patiently(path, Path::metadata)
}

/// Whether it is a file whose end comes.
fn is_regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("is {what}, not a regular file")))
}

/// Does something with a file in a thread of its own.
fn patiently<T: Send + 'static>(
    path: &Path,
    look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let late = || {
        let words = format!("no answer within {} s: is it on a mount that is gone?", PATIENCE.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, words)
    };
    let awaited = || AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
    if awaited().contains(path) {
        return Err(late());
    }
    let (answer, answers) = bounded(1);
    let of = path.to_owned();
    thread::Builder::new().name("file".to_owned()).spawn(move || {
        let found = look(&of);
        let mut awaited = AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = answer.try_send(found); // nobody waits any more if it is late
        awaited.remove(&of);
    })?;
    match answers.recv_timeout(PATIENCE) {
        Ok(found) => found,
        Err(_) => {
            let mut awaited = awaited();
            // It may have come at the last moment: then its thread has ended, and nobody would take the name away again.
            answers.try_recv().unwrap_or_else(|_| {
                awaited.insert(path.to_owned());
                Err(late())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    #[test]
    fn only_a_regular_file_of_the_right_length_is_read() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("file");
        fs::write(&path, "text").expect("ours");
        assert_eq!(read_text(&path, 4).expect("a file"), "text");
        assert_eq!(read(&path, 3).expect_err("too long").to_string(), "is longer than 3 bytes");
        fs::write(&path, [0xff]).expect("ours");
        assert_eq!(read_text(&path, 4).expect_err("no text").to_string(), "is not text");
        assert_eq!(read(home.path(), 4).expect_err("no file").to_string(), "is a directory, not a regular file");
        assert_eq!(
            read(Path::new("/dev/zero"), 4).expect_err("no file").to_string(),
            "is a device, not a regular file"
        );
        let fifo = home.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        let begin = Instant::now();
        assert_eq!(read(&fifo, 4).expect_err("no file").to_string(), "is a FIFO, not a regular file");
        assert!(begin.elapsed() < PATIENCE, "nobody writes to it, and nobody waits for that");
        assert_eq!(metadata(&home.path().join("nothing")).expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_does_not_answer_is_waited_for_once_and_not_for_ever() {
        let path = Path::new("/a mount that is gone/file");
        let (let_go, gone) = bounded::<()>(0);
        let begin = Instant::now();
        let stuck = move |_: &Path| gone.recv().map_err(|_| io::Error::other("it is back"));
        assert_eq!(patiently(path, stuck).expect_err("late").kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < 2 * PATIENCE);
        let begin = Instant::now();
        let again = patiently(path, |_| -> io::Result<()> { panic!("no second thread") });
        assert!(again.expect_err("late").to_string().contains("a mount that is gone"));
        assert!(begin.elapsed() < PATIENCE / 2, "known at once");
        // The mount is back.
        drop(let_go);
        while patiently(path, |_| Ok(())).is_err() {
            assert!(begin.elapsed() < PATIENCE, "it stays forgotten");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
