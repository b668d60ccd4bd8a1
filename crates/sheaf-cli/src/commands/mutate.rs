//! `sheaf mutate`, `sheaf mutators` and `sheaf define`: named mutations, and merge functions.
//!
//! Invariant: arguments and script files are read and checked before the site is opened.

use std::path::Path;

use rusqlite::OptionalExtension;
use serde_json::{Map, Value, json};

use crate::{
    args::{DefineArgs, ExchangeArgs, GlobalArgs, MutateArgs, MutatorsArgs},
    backend::{Device, Site},
    commands::{after, before, enter},
    console::Console,
    exit::{Exit, Failure},
    sql,
    view::ViewArg,
};

/// Where a site keeps its mutators.
const TABLE: &str = "__sheaf_mutators";

pub(super) fn call(
    args: &MutateArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let given = parse_args(&args.args)?;
    let device = Device::open(global)?;
    let site = device.existing(&args.site)?;
    let contact = before(&site, args.exchange, console)?;
    let seq = site.mutate(&args.name, &given)?;
    if console.json() {
        console.value(&json!({ "seq": seq }));
    }
    console.flush();
    after(&site, contact, args.exchange, console)
}

pub(super) fn list(
    args: &MutatorsArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let scripts = args
        .define
        .iter()
        .map(|(name, file)| Ok((name.as_str(), read_script(file)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let device = Device::open(global)?;
    if !scripts.is_empty() {
        return define_all(&device, &args.site, &scripts, args.exchange, console);
    }
    let mutators = read_mutators(&device.existing(&args.site)?)?;
    if console.json() {
        let mutators = mutators.into_iter().map(|(name, sql)| (name, Value::String(sql)));
        console.value(&Value::Object(mutators.collect::<Map<_, _>>()));
    } else {
        mutators.iter().for_each(|(name, _)| console.line(name));
    }
    Ok(Exit::Done)
}

pub(super) fn define(
    args: &DefineArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let script = read_script(&args.file)?;
    let device = Device::open(global)?;
    if args.merge {
        let (site, contact) = enter(&device, &args.site, None, args.exchange, console)?;
        site.define_merge(&args.name, &script)?;
        return after(&site, contact, args.exchange, console);
    }
    define_all(&device, &args.site, &[(&args.name, script)], args.exchange, console)
}

/// The arguments of a mutation: a JSON object.
pub(crate) fn parse_args(text: &str) -> Result<Value, Failure> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!(
            "the arguments are not JSON: {error}; give an object such as '{{\"id\": 1}}'"
        ))
    })?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Failure::usage("the arguments are not a JSON object; give one such as '{\"id\": 1}'"))
}

fn define_all(
    device: &Device,
    site: &str,
    scripts: &[(&str, String)],
    exchange: ExchangeArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let (site, contact) = enter(device, site, None, exchange, console)?;
    for (name, script) in scripts {
        site.define_mutator(name, script)?;
    }
    after(&site, contact, exchange, console)
}

fn read_script(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::io(&format!("read `{}`", file.display()), &error))?;
    if text.trim().is_empty() {
        let file = file.display();
        return Err(Failure::new("invalid", format!("`{file}` is empty; write the SQL into it")));
    }
    Ok(text)
}

/// Names and scripts, sorted by name.
fn read_mutators(site: &Site) -> Result<Vec<(String, String)>, Failure> {
    let db = site.connection(ViewArg::Local)?;
    let read = || {
        let exists = "SELECT 1 FROM sqlite_schema WHERE name = ?1";
        if db.query_row(exists, [TABLE], |_| Ok(())).optional()?.is_none() {
            return Ok(Vec::new());
        }
        let mut rows = db.prepare(&format!("SELECT name, sql FROM {TABLE} ORDER BY name"))?;
        let mutators = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        mutators.collect::<Result<Vec<_>, _>>()
    };
    read().map_err(|error| sql::failure(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object() {
        assert_eq!(parse_args("{\"a\": 1}"), Ok(json!({ "a": 1 })));
        for text in ["", "{", "[1]", "1", "null"] {
            let failure = parse_args(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(failure.message.contains("give"), "{}", failure.message);
        }
    }
}
