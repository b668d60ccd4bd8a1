//! `sheaf verify-store`: find out, before anything is entrusted to it, whether a store can carry
//! Sheaf.
//!
//! Invariant: exit status 0 means that every promise was kept; the objects of the trial are gone
//! afterwards. A store that could not be asked gets no verdict.

use serde_json::{Value, json};

use crate::{
    args::VerifyStoreArgs,
    backend::{StoreVerdict, verify_store},
    commands::transfer::count,
    console::Console,
    exit::{Exit, Failure},
};

pub(super) fn run(args: &VerifyStoreArgs, console: &mut Console) -> Result<Exit, Failure> {
    let (creators, rounds) = (args.creators, args.rounds);
    let mut shown = 0;
    let verdict = verify_store(&args.store, creators, rounds, &mut |done, all| {
        // Ten lines however many rounds there are.
        let tenth = done * 10 / all;
        if tenth > shown {
            shown = tenth;
            console.tell(&format!("{creators} creators: race {done} of {all}"));
        }
    })?;
    if console.json() {
        console.value(&to_json(&args.store, &verdict));
    } else {
        to_lines(&verdict).iter().for_each(|line| console.line(line));
    }
    match verdict.first_broken() {
        None => Ok(Exit::Done),
        Some(promise) => {
            let message = format!(
                "this store cannot carry Sheaf: {} is broken, so {}; use another store, or \
                 another version or setting of this one",
                promise.name, promise.at_stake
            );
            Err(Failure::new("unsupported", message))
        }
    }
}

fn to_lines(verdict: &StoreVerdict) -> Vec<String> {
    let mut lines = Vec::new();
    for promise in &verdict.promises {
        let state = if promise.broken.is_none() { "ok" } else { "BROKEN" };
        let mut line = format!("{:<17} {state}", promise.name);
        if let Some(broken) = &promise.broken {
            line.push_str(&format!(": {broken}"));
        } else if promise.name == "create-once" {
            let (rounds, creators) = (count(verdict.rounds, "race"), verdict.creators);
            line.push_str(&format!(": {rounds} of {creators}, one winner each"));
            if verdict.looked_up > 0 {
                let looked_up = count(verdict.looked_up, "outcome");
                line.push_str(&format!(" ({looked_up} looked up)"));
            }
        }
        lines.push(line);
    }
    if verdict.first_broken().is_none() {
        lines.push("this store can carry Sheaf".to_owned());
    }
    lines
}

fn to_json(store: &str, verdict: &StoreVerdict) -> Value {
    let promises: Vec<Value> = verdict
        .promises
        .iter()
        .map(|p| json!({ "promise": p.name, "kept": p.broken.is_none(), "broken": p.broken }))
        .collect();
    json!({
        "store": store,
        "sound": verdict.first_broken().is_none(),
        "creators": verdict.creators,
        "rounds": verdict.rounds,
        "rounds_with_several_winners": verdict.several,
        "rounds_without_a_winner": verdict.none,
        "outcomes_looked_up": verdict.looked_up,
        "promises": promises,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::KeptPromise;

    fn verdict(broken: Option<&str>) -> StoreVerdict {
        let promise = |name, broken: Option<&str>| KeptPromise {
            name,
            at_stake: "all is lost",
            broken: broken.map(str::to_owned),
        };
        StoreVerdict {
            promises: vec![promise("create-once", broken), promise("ranges", None)],
            creators: 64,
            rounds: 200,
            several: u64::from(broken.is_some()),
            none: 0,
            looked_up: 0,
        }
    }

    #[test]
    fn a_verdict_is_one_line_per_promise() {
        let expect = [
            "create-once       ok: 200 races of 64, one winner each",
            "ranges            ok",
            "this store can carry Sheaf",
        ];
        assert_eq!(to_lines(&verdict(None)), expect);
        let expect = ["create-once       BROKEN: two won", "ranges            ok"];
        assert_eq!(to_lines(&verdict(Some("two won"))), expect);
        let value = to_json("s3://b", &verdict(Some("two won")));
        assert_eq!(
            (&value["sound"], &value["promises"][0]["broken"]),
            (&json!(false), &json!("two won"))
        );
    }
}
