//! `sheaf rules`: how concurrent changes of a site's tables are merged.
//!
//! Invariant: without `--set` it talks to no server; a declaration that is wrong is shown beside
//! the rule that counts meanwhile, never left out.

use serde_json::{Value, json};

use crate::{
    args::{GlobalArgs, RulesArgs},
    backend::{Device, Rule},
    commands::{after, enter},
    console::Console,
    exit::{Exit, Failure},
};

/// What stands where there is nothing to say.
const NONE: &str = "-";

pub(super) fn run(
    args: &RulesArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let device = Device::open(global)?;
    if !args.set.is_empty() {
        let (site, contact) = enter(&device, &args.site, None, args.exchange, console)?;
        for set in &args.set {
            site.merge_rule(&set.table, &set.column, &set.rule)?;
        }
        return after(&site, contact, args.exchange, console);
    }
    let rules = device.existing(&args.site)?.rules(args.table.as_deref())?;
    if console.json() {
        console.value(&Value::Array(rules.iter().map(to_json).collect()));
    } else {
        console.text(&to_text(&rules));
    }
    Ok(Exit::Done)
}

fn to_json(rule: &Rule) -> Value {
    json!({ "table": rule.table, "column": rule.column, "type": rule.decltype,
            "rule": rule.rule, "declared": rule.declared, "problem": rule.problem })
}

/// One line per rule, in columns, and one below it for what is wrong.
fn to_text(rules: &[Rule]) -> String {
    let header = ["table", "column", "type", "rule", "declared"];
    let cells = |rule: &Rule| {
        let decltype = if rule.decltype.is_empty() { NONE } else { &rule.decltype };
        let name = rule.rule.as_deref().unwrap_or(NONE);
        [&rule.table, &rule.column, decltype, name, rule.declared].map(str::to_owned)
    };
    let lines: Vec<[String; 5]> = rules.iter().map(cells).collect();
    let mut widths = header.map(|name| name.chars().count());
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let put = |text: &mut String, line: &[String; 5]| {
        let mut whole = String::new();
        for (cell, width) in line.iter().zip(widths) {
            whole.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(whole.trim_end());
        text.push('\n');
    };
    let mut text = String::new();
    if !lines.is_empty() {
        put(&mut text, &header.map(str::to_owned));
    }
    for (rule, line) in rules.iter().zip(&lines) {
        put(&mut text, line);
        if let Some(problem) = &rule.problem {
            text.push_str(&format!("  problem: {problem}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_columns_with_their_problems() {
        let rule =
            |column: &str, decltype: &str, rule: Option<&str>, declared, problem: &str| Rule {
                table: "task".into(),
                column: column.into(),
                decltype: decltype.into(),
                rule: rule.map(str::to_owned),
                declared,
                problem: (!problem.is_empty()).then(|| problem.to_owned()),
            };
        let rules = [
            rule("*", "", Some("delete-wins"), "default", ""),
            rule("id", "INTEGER", None, "key", ""),
            rule("title", "TEXT", Some("blend"), "stored", "no merge rule is called `blend`"),
        ];
        let expect = "table  column  type     rule         declared\n\
            task   *       -        delete-wins  default\n\
            task   id      INTEGER  -            key\n\
            task   title   TEXT     blend        stored\n  \
              problem: no merge rule is called `blend`\n";
        assert_eq!(to_text(&rules), expect);
        assert_eq!(to_text(&[]), "");
        let json = to_json(&rules[2]);
        assert_eq!((&json["type"], &json["rule"]), (&json!("TEXT"), &json!("blend")));
    }
}
