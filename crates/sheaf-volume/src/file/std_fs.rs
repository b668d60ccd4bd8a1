//! A directory of the operating system. The one place of the engine that touches `std::fs`.
//!
//! Invariant: files of a store are readable by their owner only, and a flush reaches the disk or
//! reports an error. Leaves out retries: after a failed flush the caller must reopen.

use std::{
    fs, io,
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::{Dir, DirLock, File, mem::check_name};

/// Names the file that carries the advisory lock; it is no file of the store.
const LOCK_NAME: &str = "lock";

/// A directory of the operating system.
#[derive(Debug)]
pub struct StdDir {
    path: PathBuf,
}

impl StdDir {
    /// Opens a directory, making it (and its parents) when there is none.
    ///
    /// # Errors
    /// Whatever the platform reports, with the path.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        make_dir(&path).map_err(|error| at_path("open directory", &path, &error))?;
        Ok(Self { path })
    }

    /// Where this directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Dir for StdDir {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        check_name(name)?;
        let path = self.path.join(name);
        let file = open_file(&path).map_err(|error| at_path("open", &path, &error))?;
        Ok(Box::new(StdFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // Foreign files and directories are not ours to show: nobody could open them.
            if let Ok(name) = entry.file_name().into_string()
                && check_name(&name).is_ok()
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        let path = self.path.join(LOCK_NAME);
        let mut file = open_file(&path).map_err(|error| at_path("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(held(&mut file, &self.path)),
            Err(fs::TryLockError::Error(error)) => return Err(at_path("lock", &path, &error)),
        }
        // The number only serves the message a second process prints; the lock is the file's.
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Box::new(StdLock { _file: file }))
    }

    fn flush(&self) -> io::Result<()> {
        flush_dir(&self.path)
    }
}

/// The operating system gives the lock up when the file is closed, also when the process dies.
#[derive(Debug)]
struct StdLock {
    _file: fs::File,
}

impl DirLock for StdLock {}

#[derive(Debug)]
struct StdFile {
    file: fs::File,
}

impl File for StdFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match read_once(&self.file, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match write_once(&self.file, rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(full(error)),
            }
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(full)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data().map_err(full)
    }
}

#[cfg(unix)]
fn read_once(file: &fs::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(unix)]
fn write_once(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_once(file: &fs::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(windows)]
fn write_once(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

fn open_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(full)
}

fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    // ORDER: the directory's own name must be durable before anything in it claims to be.
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => flush_dir(parent),
        None => flush_dir(Path::new(".")),
    }
}

#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn flush_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn flush_dir(_path: &Path) -> io::Result<()> {
    // Other platforms make names durable with the file and offer no call for it.
    Ok(())
}

/// An exhausted quota is a full disk to everybody above.
fn full(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::QuotaExceeded {
        return io::Error::new(io::ErrorKind::StorageFull, error);
    }
    error
}

fn held(file: &mut fs::File, path: &Path) -> io::Error {
    let mut holder = String::new();
    // Some platforms do not let others read a locked file: then the number stays unknown.
    let read = file.take(32).read_to_string(&mut holder);
    let holder = match holder.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    let message = format!("in use by {holder} path=`{}`", path.display());
    io::Error::new(io::ErrorKind::WouldBlock, message)
}

fn at_path(doing: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{doing} failed path=`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::file_conformance;

    #[test]
    fn conforms() {
        let root = tempfile::tempdir().unwrap();
        let count = Mutex::new(0);
        file_conformance(&|| {
            let mut count = count.lock().unwrap();
            *count += 1;
            Arc::new(StdDir::open(root.path().join(format!("nested/{count}"))).unwrap())
        });
    }

    #[test]
    fn the_lock_names_its_holder_and_is_no_file_of_the_store() {
        let root = tempfile::tempdir().unwrap();
        let dir = StdDir::open(root.path()).unwrap();
        let lock = dir.lock().unwrap();
        let error = StdDir::open(root.path()).unwrap().lock().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let expected = format!("in use by process {}", std::process::id());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(dir.list().unwrap().is_empty());
        drop(lock);
        drop(dir.lock().unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_look() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let dir = StdDir::open(root.path().join("store")).unwrap();
        drop(dir.open("a").unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.path().join("a")), 0o600);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let root = tempfile::NamedTempFile::new().unwrap();
        let error = StdDir::open(root.path().join("below")).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
