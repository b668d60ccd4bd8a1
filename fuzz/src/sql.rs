//! SQL over whatever bytes a volume's pages hold, through the VFS and its capture.
//!
//! Asserts: errors are errors; when the connection is gone the writer is free; every mutation that
//! was captured is one that every replica accepts; the state is the one before unless something
//! committed. Every statement ends: a progress handler counts. Leaves out other files (attaching
//! is refused) and what SQLite does with a damaged database, as long as it does not crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Batch, Connection};
use sheaf_site::{Mutation, Site, SiteOptions, View};
use sheaf_volume::{Durability, ManualEnv, MemDir, Page, PageIdx, PageSize};

use crate::site::{DEVICE, IDS};

/// Pages placed, statements run and rows read of one input.
const PAGES_MAX: u32 = 128;
const STATEMENTS_MAX: usize = 48;
const ROWS_MAX: usize = 256;
/// SQLite's steps between two looks at the budget, and looks an input has.
const STEPS: i32 = 500;
const LOOKS: u32 = 200;
/// Bound of one value and one statement: what a native function may do between two looks.
const BYTES_MAX: i32 = 60_000;

/// SQL up to the first zero byte, then a database.
pub fn target(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (sql, rest) = data.split_at(end);
    let site = place(rest.get(1..).unwrap_or_default());
    let sql = String::from_utf8_lossy(sql);
    let before = site.volume().status().head;
    if let Ok(conn) = site.connection(View::Local) {
        run(conn, &sql);
    }
    assert!(site.volume().try_writer().is_some(), "a closed connection still writes");
    let status = site.status();
    assert!(status.pending.len() as u64 <= status.head.0 - before.0, "one commit, one mutation");
    for pending in site.volume().timeline().expect("BUG: a directory in memory") {
        let record = sheaf_site::MutationRecord::from(pending);
        let mutation: Mutation = record.mutation().expect("BUG: captured what does not decode");
        mutation.check().expect("BUG: captured what others would refuse");
    }
    // Another connection sees what is there or says why not.
    if let Ok(conn) = site.connection(View::Local) {
        run(conn, "SELECT * FROM sqlite_schema; PRAGMA quick_check(3)");
    }
}

/// A site whose pages are these bytes.
fn place(database: &[u8]) -> Site {
    let claimed = database.get(16..18).map_or(0, |b| u32::from(b[0]) << 8 | u32::from(b[1]));
    let page_size = PageSize::new(claimed).filter(|size| size.get() <= 4096);
    let page_size = page_size.unwrap_or(IDS.page_size);
    let mut options = SiteOptions::new("s", DEVICE);
    options.create = Some(sheaf_site::SiteIds { page_size, ..IDS });
    options.cache_pages = 64;
    let env = Arc::new(ManualEnv::new(1));
    let site = Site::open(&MemDir::new(), env, options).expect("BUG: a new site in memory");
    let volume = site.volume();
    let mut draft = volume.draft(volume.writer());
    for (number, bytes) in (1..=PAGES_MAX).zip(database.chunks(page_size.bytes())) {
        let mut page = bytes.to_vec();
        page.resize(page_size.bytes(), 0);
        draft.write(PageIdx::new(number).expect("BUG: from one"), Page::from(page));
    }
    draft.save(None, Vec::new(), Durability::Memory).expect("BUG: a commit in memory");
    site
}

fn run(mut conn: Connection, sql: &str) {
    let budget = AtomicU32::new(LOOKS);
    let spent = move || {
        let before =
            budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        before.is_err()
    };
    conn.progress_handler(STEPS, Some(spent)).expect("BUG: an open connection");
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, BYTES_MAX),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 8),
        (Limit::SQLITE_LIMIT_COLUMN, 64),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 64),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 8),
        (Limit::SQLITE_LIMIT_VDBE_OP, 20_000),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        conn.set_limit(limit, value).expect("BUG: a limit of SQLite");
    }
    // Nothing of an input may reach a disk, nor the memory of this process.
    conn.execute_batch("PRAGMA temp_store = memory; PRAGMA hard_heap_limit = 100000000").ok();
    conn.authorizer(Some(authorize)).expect("BUG: an open connection");
    let mut batch = Batch::new(&conn, sql);
    for _ in 0..STATEMENTS_MAX {
        // A statement that does not parse ends the batch; one that fails does not.
        let Ok(Some(mut statement)) = batch.next() else { break };
        let mut rows = statement.raw_query();
        for _ in 0..ROWS_MAX {
            let Ok(Some(row)) = rows.next() else { break };
            for column in 0..64 {
                if row.get_ref(column).is_err() {
                    break;
                }
            }
        }
    }
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        // The empty name is the copy that VACUUM makes, in memory here.
        AuthAction::Attach { filename } if !filename.is_empty() => Authorization::Deny,
        AuthAction::Pragma { pragma_name, .. } => {
            let name = pragma_name.to_ascii_lowercase();
            let denied =
                ["hard_heap_limit", "soft_heap_limit", "temp_store", "temp_store_directory"];
            let denied = denied.contains(&name.as_str()) || name == "data_store_directory";
            if denied { Authorization::Deny } else { Authorization::Allow }
        }
        _ => Authorization::Allow,
    }
}
