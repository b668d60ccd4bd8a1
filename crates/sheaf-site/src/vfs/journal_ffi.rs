//! The C side of a rollback journal.
//!
//! Invariants: as `ffi.rs`. The handle behind a journal is its database's, which SQLite closes
//! after it, so closing a journal only empties it. Leaves out locks: SQLite locks databases only.

use std::ffi::{c_int, c_void};

use rusqlite::ffi;

use super::ffi::{VolumeFile, on_handle, x_check_reserved_lock, x_sync};
use super::handle::{Code, Handle};
use super::journal::Journal;

/// Of no consequence for a journal: SQLite asks its database.
const SECTOR_BYTES: c_int = 512;

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_lock),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Opens the journal of an open database.
///
/// # Safety
/// `database` must be one of ours or null, and `file` have room for a [`VolumeFile`].
pub(super) unsafe fn open(database: *mut ffi::sqlite3_file, file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        let journal = file.cast::<VolumeFile>();
        (*journal).base.pMethods = std::ptr::null();
        if database.is_null() {
            return ffi::SQLITE_CANTOPEN;
        }
        let opened = on_handle(database, |handle| {
            if handle.open_journal() { ffi::SQLITE_OK } else { ffi::SQLITE_CANTOPEN }
        });
        if opened == ffi::SQLITE_OK {
            (*journal).handle = (*database.cast::<VolumeFile>()).handle;
            (*journal).base.pMethods = &raw const METHODS;
        }
        opened
    }
}

/// Runs `f` on the journal behind a file; an error becomes `code`.
///
/// # Safety
/// As [`on_handle`].
unsafe fn on_journal(
    file: *mut ffi::sqlite3_file,
    code: Code,
    f: impl FnOnce(&mut Journal) -> sheaf_volume::Result<Code>,
) -> c_int {
    let run = |handle: &mut Handle| match handle.journal().and_then(f) {
        Ok(code) => code,
        Err(e) => handle.fail(e, code),
    };
    // SAFETY: by the caller's promise.
    unsafe { on_handle(file, run) }
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, and only one that was opened.
    unsafe {
        let closed = on_handle(file, |handle| {
            handle.close_journal();
            ffi::SQLITE_OK
        });
        (*file).pMethods = std::ptr::null();
        closed
    }
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    buf: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(amount), usize::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: the file is ours; SQLite gives `amount` writable bytes at `buf`.
    unsafe {
        let buf = std::slice::from_raw_parts_mut(buf.cast::<u8>(), len);
        on_journal(file, ffi::SQLITE_IOERR_READ, |journal| {
            let whole = journal.read(buf, offset)?;
            Ok(if whole { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ })
        })
    }
}

unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    buf: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(amount), usize::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: the file is ours; SQLite gives `amount` readable bytes at `buf`.
    unsafe {
        let bytes = std::slice::from_raw_parts(buf.cast::<u8>(), len);
        on_journal(file, ffi::SQLITE_IOERR_WRITE, |journal| {
            journal.write(bytes, offset)?;
            Ok(ffi::SQLITE_OK)
        })
    }
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let Ok(size) = usize::try_from(size) else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: the file is ours.
    unsafe {
        on_journal(file, ffi::SQLITE_IOERR_TRUNCATE, |journal| {
            journal.truncate(size);
            Ok(ffi::SQLITE_OK)
        })
    }
}

unsafe extern "C" fn x_file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is ours and `size` points to SQLite's variable.
    unsafe {
        on_journal(file, ffi::SQLITE_IOERR_FSTAT, |journal| {
            *size = i64::try_from(journal.len()).unwrap_or(i64::MAX);
            Ok(ffi::SQLITE_OK)
        })
    }
}

unsafe extern "C" fn x_lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_control(
    _file: *mut ffi::sqlite3_file,
    _op: c_int,
    _arg: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn x_sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    SECTOR_BYTES
}

unsafe extern "C" fn x_device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    0
}
