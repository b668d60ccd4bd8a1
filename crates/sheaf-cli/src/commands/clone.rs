//! `sheaf clone`: make a replica of a site that others made.
//!
//! Invariant: without `--full` the cost is that of learning which pages exist, and of the pages of
//! a small site; other pages come when they are read.

use crate::{
    args::{CloneArgs, GlobalArgs},
    backend::{Device, Refusal},
    commands::{print_status, transfer::count},
    console::Console,
    exit::{Exit, Failure},
    progress::{self, Meter, Unit},
};

pub(super) fn run(
    args: &CloneArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    let name = &args.site;
    if !device.has_server() {
        let message = "clone needs a server; name one with --server URL or SHEAF_SERVER";
        return Err(Failure::usage(message));
    }
    if device.has_site(name) {
        let message =
            format!("site `{name}` is here already; `sheaf pull {name}` brings it up to date");
        return Err(Failure::new("exists", message));
    }
    let site = device.clone_site(name, args.timeout).map_err(Refusal::into_failure)?;
    if args.full {
        let (meter, unit) = (Meter::default(), Unit::Pages(site.page_size()));
        progress::during(console, "clone", unit, || meter.sample(), || site.hydrate(&meter))?;
    } else {
        site.fetch_if_small();
    }
    let status = site.status();
    if console.json() {
        print_status(&status, console);
    } else {
        let pages = count(status.page_count, "page");
        let missing = match status.pages_missing {
            0 => String::new(),
            number => format!(", {number} fetched when they are read"),
        };
        console.line(&format!("cloned {name} at @{}: {pages}{missing}", status.base));
    }
    Ok(Exit::Done)
}
