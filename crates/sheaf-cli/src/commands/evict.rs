//! `sheaf evict`: gives disk space back by dropping pages that the server has.
//!
//! Invariant: nothing that exists only on this device is dropped.

use serde_json::json;

use crate::{
    args::{EvictArgs, GlobalArgs},
    backend::Device,
    commands::transfer::{bytes, count},
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(
    args: &EvictArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let site = device.existing(&args.site)?;
    let (pages, left) = site.evict(args.to, args.remember)?;
    if console.json() {
        console.value(&json!({ "site": args.site, "evicted_pages": pages, "bytes_left": left }));
    } else {
        let pages = count(pages, "page");
        console.line(&format!("evicted {pages}, {} of pages left", bytes(left)));
    }
    Ok(Exit::Done)
}
