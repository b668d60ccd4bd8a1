//! `sheaf branch`: a new site that goes on from a state of another one.
//!
//! Invariant: a branch of the present state has what this device has done: that is sent first.

use serde_json::json;

use crate::{
    args::{BranchArgs, GlobalArgs},
    backend::{Device, Refusal},
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(
    args: &BranchArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let (from, new) = (&args.site, &args.new);
    let device = Device::open(global)?;
    if device.has_site(new) {
        let message = format!("site `{new}` is here already; choose another name for the branch");
        return Err(Failure::new("exists", message));
    }
    // Held until the branch is made, so that the server it remembers is asked.
    let source =
        if device.has_site(&from.name) { Some(device.site(&from.name, None)?) } else { None };
    if let Some(source) = source.as_ref().filter(|_| from.view.is_none()) {
        if source.server().is_none() {
            let message = format!(
                "site `{}` has no server, and a branch is made there; name one with --server URL \
                 or SHEAF_SERVER",
                from.name
            );
            return Err(Failure::new("no_server", message));
        }
        source.exchange(args.timeout).map_err(Refusal::into_failure)?;
    }
    let branch = device.branch(from, new, args.timeout)?;
    branch.fetch_if_small();
    let lsn = branch.status().base;
    if console.json() {
        console.value(&json!({ "site": new, "from": from.name, "lsn": lsn }));
    } else {
        console.line(&format!("branched {new} from {}@{lsn}", from.name));
    }
    Ok(Exit::Done)
}
