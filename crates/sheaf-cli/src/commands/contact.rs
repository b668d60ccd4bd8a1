//! The exchange before and after a command that changes a site.
//!
//! Invariant: a server that does not answer never stops local work, which then ends with exit
//! status 3; a server that says no (a bad token, a newer version, a damaged store) stops the
//! command before it changes anything.

use crate::{
    args::ExchangeArgs,
    backend::{Device, Exchanged, Refusal, Site},
    console::Console,
    exit::{Exit, Failure},
    progress::{self, Unit},
};

/// How the exchange before a command went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// There is no server, or `--offline` was given.
    None,
    /// The server answered.
    Reached,
    /// The server did not answer, and why.
    Lost(String),
}

/// Opens a site to change it, and learns what others did, unless told not to.
///
/// A site that is new on this device is looked for on the server first, so that a server that says
/// no leaves nothing behind here. `page_size` is wished for a site that is made now.
pub(crate) fn enter(
    device: &Device,
    name: &str,
    page_size: Option<u32>,
    args: ExchangeArgs,
    console: &mut Console,
) -> Result<(Site, Contact), Failure> {
    if device.has_site(name) || args.offline || !device.has_server() {
        let site = device.site(name, page_size)?;
        let contact = before(&site, args, console)?;
        return Ok((site, contact));
    }
    match device.clone_site(name, args.timeout) {
        Ok(site) => {
            site.fetch_if_small();
            Ok((site, Contact::Reached))
        }
        Err(Refusal::Unreachable(reason)) => {
            Ok((device.site(name, page_size)?, Contact::Lost(reason)))
        }
        Err(Refusal::Refused(failure)) if failure.kind == "not_found" => {
            Ok((device.site(name, page_size)?, Contact::Reached))
        }
        Err(Refusal::Refused(failure)) => Err(unchanged(failure)),
    }
}

/// Learns what others did, unless told not to.
pub(crate) fn before(
    site: &Site,
    args: ExchangeArgs,
    console: &mut Console,
) -> Result<Contact, Failure> {
    if args.offline {
        // Without this, reading a page that is not here would fetch it.
        site.go_offline();
        return Ok(Contact::None);
    }
    if site.server().is_none() {
        return Ok(Contact::None);
    }
    let exchanged = site.exchange(args.timeout);
    let (contact, done) = judge_before(exchanged)?;
    if contact == Contact::Reached {
        site.fetch_if_small();
    }
    // These were made by earlier commands; this one goes on.
    for (seq, reason) in &done.rejected {
        let message = format!(
            "change {seq}, made earlier, was rejected and is not in the site: {reason}; \
             see `sheaf status {}`",
            site.name()
        );
        console.warn("rejected", &message);
    }
    Ok(contact)
}

fn judge_before(exchanged: Result<Exchanged, Refusal>) -> Result<(Contact, Exchanged), Failure> {
    match exchanged {
        Ok(done) => Ok((Contact::Reached, done)),
        Err(Refusal::Unreachable(reason)) => Ok((Contact::Lost(reason), Exchanged::default())),
        Err(Refusal::Refused(failure)) => Err(unchanged(failure)),
    }
}

/// Says what somebody should know whose command the server stopped.
fn unchanged(failure: Failure) -> Failure {
    match failure.kind {
        // Wrong input is as wrong without the server.
        "invalid" => failure,
        _ => failure.with_note("nothing was changed; --offline works without the server"),
    }
}

/// Sends what the command changed, if there is anything to send and somebody to send it to.
pub(crate) fn after(
    site: &Site,
    contact: Contact,
    args: ExchangeArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    match contact {
        Contact::None => Ok(Exit::Done),
        Contact::Lost(reason) => Ok(unreachable(site, &reason, console)),
        Contact::Reached if site.status().pending.is_empty() => Ok(Exit::Done),
        Contact::Reached => match exchange(site, args, console) {
            Ok(done) => {
                if let Some(question) = question(site) {
                    console.warn("asks", &question);
                }
                judge_after(site.name(), &done)
            }
            Err(Refusal::Unreachable(reason)) => Ok(unreachable(site, &reason, console)),
            Err(Refusal::Refused(failure)) => {
                Err(failure.with_note("the change is kept on this device"))
            }
        },
    }
}

fn exchange(site: &Site, args: ExchangeArgs, console: &mut Console) -> Result<Exchanged, Refusal> {
    let sample = || site.push_progress();
    progress::during(console, "push", Unit::Bytes, sample, || site.exchange(args.timeout))
}

/// What the site asks its user before it sends more.
pub(crate) fn question(site: &Site) -> Option<String> {
    let (seq, reason) = site.asking()?;
    let name = site.name();
    Some(format!(
        "change {seq} waits for you, and what comes after it: {reason}; look at what is there, then \
         `sheaf push {name} --go-on {seq}` or `--withdraw {seq}`"
    ))
}

/// A rejected mutation makes the command fail: what it was asked to do is not in the site.
pub(crate) fn judge_after(site: &str, done: &Exchanged) -> Result<Exit, Failure> {
    let Some((seq, reason)) = done.rejected.first() else {
        return Ok(Exit::Done);
    };
    let more = match done.rejected.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let message = format!(
        "change {seq} was rejected and is not in the site: {reason}{more}; \
         see `sheaf status {site}`"
    );
    Err(Failure::new("rejected", message))
}

fn unreachable(site: &Site, reason: &str, console: &mut Console) -> Exit {
    let name = site.name();
    let message = format!(
        "done on this device, but the server could not be reached ({reason}): \
         run `sheaf push {name}` when it can, or add --offline"
    );
    console.warn("unavailable", &message);
    Exit::Unreachable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_lets_work_go_on_and_refusal_stops_it() {
        let silent = judge_before(Err(Refusal::Unreachable("timed out".into())));
        assert_eq!(silent.unwrap().0, Contact::Lost("timed out".into()));
        let refused = judge_before(Err(Refusal::Refused(Failure::new("denied", "no"))));
        let failure = refused.unwrap_err();
        assert_eq!((failure.exit, failure.kind), (Exit::Failed, "denied"));
        assert!(failure.message.contains("nothing was changed"));
    }

    #[test]
    fn a_rejected_change_fails_with_its_reason() {
        let done = Exchanged {
            rejected: vec![(4, "CHECK failed".into()), (5, "x".into())],
            ..Exchanged::default()
        };
        let failure = judge_after("s", &done).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(
            failure.message,
            "change 4 was rejected and is not in the site: CHECK failed (and 1 more); \
             see `sheaf status s`"
        );
        assert_eq!(judge_after("s", &Exchanged::default()), Ok(Exit::Done));
    }
}
