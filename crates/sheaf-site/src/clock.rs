//! What `now` means on this thread while a mutator runs.
//!
//! Invariant: an override ends with the call that set it, also when that call unwinds. The VFS
//! asks [`override_ms`] when SQLite asks the time. Leaves out the clock itself: see `Env`.

use std::cell::Cell;

thread_local! {
    static OVERRIDE_MS: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Restore(Option<u64>);

impl Drop for Restore {
    fn drop(&mut self) {
        OVERRIDE_MS.set(self.0);
    }
}

/// Runs `f` with the time standing still at `ms` milliseconds since 1970.
pub(crate) fn with_time<T>(ms: u64, f: impl FnOnce() -> T) -> T {
    let _restore = Restore(OVERRIDE_MS.replace(Some(ms)));
    f()
}

/// The time a running mutator sees on this thread, if one runs.
#[must_use]
pub(crate) fn override_ms() -> Option<u64> {
    OVERRIDE_MS.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_nests_and_ends() {
        assert_eq!(override_ms(), None);
        let inner = with_time(1, || {
            assert_eq!(override_ms(), Some(1));
            let inner = with_time(2, override_ms);
            assert_eq!(override_ms(), Some(1));
            inner
        });
        assert_eq!((inner, override_ms()), (Some(2), None));
    }

    #[test]
    fn an_override_ends_with_a_panic() {
        let unwound = std::panic::catch_unwind(|| with_time(1, || panic!("expected")));
        assert!(unwound.is_err());
        assert_eq!(override_ms(), None);
    }
}
