//! What comes in by itself: events of the background, and answers of the worker.
//!
//! Invariant: bounded for each look, so that keys are never kept waiting.

use std::{collections::BTreeMap, time::Duration};

use sheaf::Event;

use super::Side;
use crate::{advice, desk::Told, limits, screen::Mode};

impl Side {
    /// Takes what happened in the background; whether something of this side was agreed on.
    pub(super) fn take_events(&mut self) -> bool {
        let mut has_given = false;
        for _ in 0..limits::EVENTS_PER_TICK {
            let Some(event) = self.desk.events.try_next() else { break };
            self.is_stale = true;
            match event {
                // Who went offline on purpose knows.
                Event::Offline { reason, .. } if self.screen.is_online => {
                    self.screen.warn(advice::text(&reason));
                }
                Event::Refused { reason, .. } | Event::Failed { error: reason, .. } => {
                    self.screen.warn(advice::text(&reason));
                }
                Event::Changed { confirmed, .. } => {
                    has_given |= confirmed > 0;
                    self.wants_pages = true;
                }
                Event::Rejected { reason, .. } => {
                    self.screen.warn(format!("a change was refused: {reason} - F4 shows it"));
                }
                _ => {}
            }
        }
        has_given
    }

    /// Takes what the worker has done.
    pub(super) fn take_told(&mut self, names: &BTreeMap<String, String>, wait: Duration) {
        let mut wait = Some(wait);
        while let Some(told) = self.desk.told(wait.take().unwrap_or_default()) {
            self.is_stale = true;
            match told {
                Told::Exchanged(Ok(done)) => {
                    let merged = if done.merged > 0 { ", merged with others' work" } else { "" };
                    if std::mem::take(&mut self.has_asked) {
                        self.screen.say(format!(
                            "exchanged: {} commits taken, {} changes of yours agreed on{merged}",
                            done.pulled, done.confirmed
                        ));
                    }
                }
                // Pages are fetched so that nothing is missing offline; offline is no failure.
                Told::Fetched(Err(_)) if !self.screen.is_online => {}
                Told::Exchanged(Err(error)) | Told::Fetched(Err(error)) => {
                    self.has_asked = false;
                    self.screen.warn(advice::text(&error));
                }
                Told::Fetched(Ok(())) => {}
                Told::History(of, versions) => {
                    let Mode::History(history) = &mut self.screen.mode else { continue };
                    if history.id != of {
                        continue;
                    }
                    match versions {
                        Ok(mut versions) => {
                            for version in &mut versions {
                                version.who = who(names, &version.who);
                            }
                            history.versions = Some(versions);
                        }
                        Err(error) => {
                            self.screen.mode = Mode::Outline;
                            self.screen.warn(advice::text(&error));
                        }
                    }
                }
            }
        }
    }
}

/// A device by name, or by the beginning of its id.
fn who(names: &BTreeMap<String, String>, device: &str) -> String {
    let short = || device.chars().take(8).collect();
    names.get(device).cloned().unwrap_or_else(short)
}
