//! The C side of the VFS: tables of function pointers that SQLite calls.
//!
//! Invariant: every callback catches panics and turns them into a result code, because unwinding
//! into C would abort the host program. Pointers are used only for the duration SQLite promises.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use rusqlite::ffi;
use sheaf_volume::{Durability, Error, ErrorKind, Result};

use super::handle::Handle;
use super::{NAME_PREFIX, journal_ffi, now_ms, spec_of};

/// The name SQLite knows this VFS by.
pub(crate) const VFS_NAME: &CStr = c"sheaf";

/// Milliseconds between SQLite's epoch (4714-11-24 BC, noon) and 1970.
const JULIAN_EPOCH_MS: i64 = 210_866_760_000_000;

/// What SQLite allocates for each open file: its own header, then our pointer. A database owns its
/// handle; its journal, which SQLite closes before it, has the same one.
#[repr(C)]
pub(super) struct VolumeFile {
    pub(super) base: ffi::sqlite3_file,
    pub(super) handle: *mut Handle,
}

struct Registered {
    default_vfs: *mut ffi::sqlite3_vfs,
}

// SAFETY: SQLite's registered VFS objects live for the whole process and may be called from any
// thread; the pointer itself is never written.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

static REGISTERED: OnceLock<std::result::Result<Registered, c_int>> = OnceLock::new();

/// Registers the VFS once per process.
///
/// # Errors
/// `Internal` when SQLite refuses it.
pub(crate) fn register() -> Result<()> {
    let registered = REGISTERED.get_or_init(|| {
        // SAFETY: initialising and looking up the default VFS have no preconditions.
        let default_vfs = unsafe {
            ffi::sqlite3_initialize();
            ffi::sqlite3_vfs_find(std::ptr::null())
        };
        if default_vfs.is_null() {
            return Err(ffi::SQLITE_ERROR);
        }
        // SAFETY: found just now, and never unregistered by us.
        let os_file = unsafe { (*default_vfs).szOsFile };
        let ours = c_int::try_from(size_of::<VolumeFile>()).unwrap_or(c_int::MAX);
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: os_file.max(ours),
            mxPathname: 512,
            pNext: std::ptr::null_mut(),
            zName: VFS_NAME.as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(x_open),
            xDelete: Some(x_delete),
            xAccess: Some(x_access),
            xFullPathname: Some(x_full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(x_randomness),
            xSleep: Some(x_sleep),
            xCurrentTime: None,
            xGetLastError: None,
            xCurrentTimeInt64: Some(x_current_time),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the object is leaked, so it outlives every use SQLite makes of it.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(vfs), 0) };
        if code == ffi::SQLITE_OK { Ok(Registered { default_vfs }) } else { Err(code) }
    });
    match registered {
        Ok(_) => Ok(()),
        Err(code) => {
            Err(Error::new(ErrorKind::Internal, format!("SQLite refuses the VFS code=`{code}`")))
        }
    }
}

fn default_vfs() -> *mut ffi::sqlite3_vfs {
    match REGISTERED.get() {
        Some(Ok(registered)) => registered.default_vfs,
        _ => std::ptr::null_mut(),
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
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

/// Runs `f` on the handle behind a file, turning a panic into an error code.
///
/// # Safety
/// `file` must be a file that `x_open` opened as ours and that is not closed.
pub(super) unsafe fn on_handle(
    file: *mut ffi::sqlite3_file,
    f: impl FnOnce(&mut Handle) -> c_int,
) -> c_int {
    // SAFETY: by the caller's promise the file is ours, so the pointer behind it is a live Handle;
    // SQLite serialises calls on one connection, so there is no other reference.
    let handle = unsafe { &mut *(*file.cast::<VolumeFile>()).handle };
    catch_unwind(AssertUnwindSafe(|| f(handle))).unwrap_or(ffi::SQLITE_INTERNAL)
}

/// Whether a name is one of the views that this VFS serves (or a journal of one).
///
/// # Safety
/// `name` must be null or NUL-terminated.
unsafe fn is_ours(name: *const c_char) -> bool {
    // SAFETY: by the caller's promise.
    !name.is_null()
        && unsafe { CStr::from_ptr(name) }.to_bytes().starts_with(NAME_PREFIX.as_bytes())
}

unsafe extern "C" fn x_open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: a name that is not null is NUL-terminated.
    if unsafe { !is_ours(name) } {
        // Temporary files, and plain files that somebody attaches.
        let vfs = default_vfs();
        // SAFETY: the default VFS is registered for the process; our szOsFile is at least its own,
        // so `file` has room for its file object, whose methods SQLite calls from here on.
        return unsafe {
            match vfs.as_ref().and_then(|vfs| vfs.xOpen) {
                Some(open) => open(vfs, name, file, flags, out_flags),
                None => ffi::SQLITE_CANTOPEN,
            }
        };
    }
    if flags & ffi::SQLITE_OPEN_MAIN_JOURNAL != 0 {
        // SAFETY: for a journal SQLite passes the name that belongs to its open database, and a
        // file object of our szOsFile bytes.
        return unsafe { journal_ffi::open(ffi::sqlite3_database_file_object(name), file) };
    }
    if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
        // There is no super-journal and no log of a view.
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: SQLite passes a NUL-terminated name and a file object of our szOsFile bytes.
    unsafe {
        let our_file = file.cast::<VolumeFile>();
        (*our_file).base.pMethods = std::ptr::null();
        let Ok(name) = CStr::from_ptr(name.cast::<c_char>()).to_str() else {
            return ffi::SQLITE_CANTOPEN;
        };
        let opened = catch_unwind(|| spec_of(name).map(Handle::new));
        let Ok(Some(handle)) = opened else { return ffi::SQLITE_CANTOPEN };
        let writable = handle.is_writable();
        (*our_file).handle = Box::into_raw(Box::new(handle));
        (*our_file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            // An attached view of the past must not take part in BEGIN IMMEDIATE.
            let readonly = (flags & !ffi::SQLITE_OPEN_READWRITE) | ffi::SQLITE_OPEN_READONLY;
            let flags = if writable { flags } else { readonly };
            // Told that a file is in memory, SQLite commits it without a super-journal, which no
            // crash could make use of: the other files of the transaction have journals on disk.
            *out_flags = flags | ffi::SQLITE_OPEN_MEMORY;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, and only one that x_open opened as ours.
    unsafe {
        let our_file = file.cast::<VolumeFile>();
        let handle = Box::from_raw((*our_file).handle);
        (*our_file).handle = std::ptr::null_mut();
        (*our_file).base.pMethods = std::ptr::null();
        let closed = catch_unwind(AssertUnwindSafe(|| {
            let mut handle = handle;
            handle.unlock(super::handle::LOCK_NONE);
        }));
        if closed.is_err() { ffi::SQLITE_INTERNAL } else { ffi::SQLITE_OK }
    }
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    buf: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: the file is ours; SQLite gives `amount` writable bytes at `buf`.
    unsafe {
        let buf = std::slice::from_raw_parts_mut(buf.cast::<u8>(), len);
        on_handle(file, |handle| match handle.read(buf, offset) {
            Ok(true) => ffi::SQLITE_OK,
            Ok(false) => ffi::SQLITE_IOERR_SHORT_READ,
            Err(e) => handle.fail(e, ffi::SQLITE_IOERR_READ),
        })
    }
}

unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    buf: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: the file is ours; SQLite gives `amount` readable bytes at `buf`.
    unsafe {
        let bytes = std::slice::from_raw_parts(buf.cast::<u8>(), len);
        on_handle(file, |handle| match handle.write(bytes, offset) {
            Ok(()) => ffi::SQLITE_OK,
            Err(e) => handle.fail(e, ffi::SQLITE_IOERR_WRITE),
        })
    }
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let Ok(size) = u64::try_from(size) else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: the file is ours.
    unsafe {
        on_handle(file, |handle| match handle.truncate(size) {
            Ok(()) => ffi::SQLITE_OK,
            Err(e) => handle.fail(e, ffi::SQLITE_IOERR_TRUNCATE),
        })
    }
}

/// The commit happened at `SQLITE_FCNTL_SYNC`, which also comes when `PRAGMA synchronous` is off;
/// a journal is on no disk.
pub(super) unsafe extern "C" fn x_sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is ours and `size` points to SQLite's variable.
    unsafe {
        on_handle(file, |handle| {
            let bytes = u64::from(handle.page_count().0) * handle.page_size() as u64;
            *size = i64::try_from(bytes).unwrap_or(i64::MAX);
            ffi::SQLITE_OK
        })
    }
}

unsafe extern "C" fn x_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is ours.
    unsafe { on_handle(file, |handle| handle.lock(level)) }
}

unsafe extern "C" fn x_unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is ours.
    unsafe {
        on_handle(file, |handle| {
            handle.unlock(level);
            ffi::SQLITE_OK
        })
    }
}

/// Asked only to find a hot journal, and there is never one.
pub(super) unsafe extern "C" fn x_check_reserved_lock(
    _file: *mut ffi::sqlite3_file,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `out` points to SQLite's variable.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_control(
    file: *mut ffi::sqlite3_file,
    op: c_int,
    arg: *mut c_void,
) -> c_int {
    match op {
        // SAFETY: the file is ours.
        ffi::SQLITE_FCNTL_SYNC => unsafe { on_handle(file, Handle::commit) },
        // SAFETY: for this operation `arg` is an array of three C strings.
        ffi::SQLITE_FCNTL_PRAGMA => unsafe { pragma(file, arg.cast::<*mut c_char>()) },
        _ => ffi::SQLITE_NOTFOUND,
    }
}

/// Pragmas that mean something else here than on a file of its own.
///
/// # Safety
/// `file` must be ours and `args` an array of three C strings (or nulls), as SQLite documents.
unsafe fn pragma(file: *mut ffi::sqlite3_file, args: *mut *mut c_char) -> c_int {
    // SAFETY: by the caller's promise.
    let text = |at: usize| unsafe {
        let pointer = *args.add(at);
        if pointer.is_null() {
            None
        } else {
            Some(CStr::from_ptr(pointer).to_string_lossy().to_ascii_lowercase())
        }
    };
    let (Some(name), Some(value)) = (text(1), text(2)) else { return ffi::SQLITE_NOTFOUND };
    // SAFETY: SQLite frees the answer with sqlite3_free, which is what sqlite3_mprintf pairs with.
    let answer = |text: &CStr| unsafe {
        *args = ffi::sqlite3_mprintf(c"%s".as_ptr(), text.as_ptr());
    };
    match name.as_str() {
        // There is no other journal here. SQLite answers with the mode that stays, as for :memory:.
        "journal_mode" if value != "delete" => {
            answer(c"delete");
            ffi::SQLITE_OK
        }
        // Nobody can be locked out of a snapshot.
        "locking_mode" if value != "normal" => {
            answer(c"normal");
            ffi::SQLITE_OK
        }
        "page_size" => {
            let mut size = 0;
            // SAFETY: by the caller's promise the file is ours.
            let code = unsafe {
                on_handle(file, |handle| {
                    size = handle.page_size();
                    ffi::SQLITE_OK
                })
            };
            if code != ffi::SQLITE_OK || value.parse() == Ok(size) {
                return ffi::SQLITE_NOTFOUND;
            }
            answer(c"the page size of a site is fixed when it is created");
            ffi::SQLITE_ERROR
        }
        "synchronous" => {
            let durability = match value.as_str() {
                "0" | "off" => Durability::Memory,
                "1" | "normal" => Durability::Normal,
                _ => Durability::Local,
            };
            // SAFETY: by the caller's promise the file is ours.
            let _code = unsafe {
                on_handle(file, |handle| {
                    handle.durability = durability;
                    ffi::SQLITE_OK
                })
            };
            ffi::SQLITE_NOTFOUND
        }
        _ => ffi::SQLITE_NOTFOUND,
    }
}

unsafe extern "C" fn x_sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn x_device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_SAFE_APPEND
        | ffi::SQLITE_IOCAP_SEQUENTIAL
        | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn x_delete(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flush_dir: c_int,
) -> c_int {
    let vfs = default_vfs();
    // SAFETY: SQLite passes a NUL-terminated name; the default VFS lives as long as the process.
    unsafe {
        match vfs.as_ref().and_then(|vfs| vfs.xDelete) {
            Some(delete) if !is_ours(name) => delete(vfs, name, flush_dir),
            // The journal of a view ends when it is closed.
            _ => ffi::SQLITE_OK,
        }
    }
}

unsafe extern "C" fn x_access(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let vfs = default_vfs();
    // SAFETY: SQLite passes a NUL-terminated name and a place for the answer; the default VFS
    // lives as long as the process.
    unsafe {
        match vfs.as_ref().and_then(|vfs| vfs.xAccess) {
            Some(access) if !is_ours(name) => access(vfs, name, flags, out),
            _ => {
                // Asked at every read transaction for a journal that was left: there is never one.
                *out = 0;
                ffi::SQLITE_OK
            }
        }
    }
}

unsafe extern "C" fn x_full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    let vfs = default_vfs();
    // SAFETY: SQLite passes a NUL-terminated name and `size` writable bytes; the default VFS lives
    // as long as the process.
    unsafe {
        if let (false, Some(full)) = (is_ours(name), vfs.as_ref().and_then(|vfs| vfs.xFullPathname))
        {
            return full(vfs, name, size, out);
        }
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if usize::try_from(size).is_ok_and(|size| bytes.len() <= size) {
            std::ptr::copy_nonoverlapping(bytes.as_ptr().cast::<c_char>(), out, bytes.len());
            return ffi::SQLITE_OK;
        }
    }
    ffi::SQLITE_CANTOPEN
}

unsafe extern "C" fn x_randomness(
    _vfs: *mut ffi::sqlite3_vfs,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    let vfs = default_vfs();
    // SAFETY: the default VFS lives as long as the process; the arguments are passed through.
    unsafe {
        match vfs.as_ref().and_then(|vfs| vfs.xRandomness) {
            Some(randomness) => randomness(vfs, len, out),
            None => 0,
        }
    }
}

unsafe extern "C" fn x_sleep(_vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    let vfs = default_vfs();
    // SAFETY: as in x_randomness.
    unsafe {
        match vfs.as_ref().and_then(|vfs| vfs.xSleep) {
            Some(sleep) => sleep(vfs, microseconds),
            None => 0,
        }
    }
}

unsafe extern "C" fn x_current_time(
    _vfs: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    let now = catch_unwind(now_ms).ok().flatten();
    let Some(now) = now.and_then(|now| i64::try_from(now).ok()) else { return ffi::SQLITE_ERROR };
    // SAFETY: `out` points to SQLite's variable.
    unsafe { *out = JULIAN_EPOCH_MS.saturating_add(now) };
    ffi::SQLITE_OK
}
