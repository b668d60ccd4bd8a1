//! The answer of `EXPLAIN QUERY PLAN` as a tree.
//!
//! Invariant: a row whose parent is unknown is shown at the top, and none is lost.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use rusqlite::types::ValueRef;

use super::{Renderer, value};

/// The rows so far.
#[derive(Default)]
pub(super) struct Tree {
    steps: Vec<Step>,
}

struct Step {
    id: i64,
    parent: i64,
    detail: String,
}

impl Renderer for Tree {
    fn row(&mut self, _out: &mut dyn Write, values: &[ValueRef<'_>]) -> io::Result<()> {
        let number = |index: usize| values.get(index).and_then(|value| value.as_i64().ok());
        self.steps.push(Step {
            id: number(0).unwrap_or(0),
            parent: number(1).unwrap_or(0),
            detail: values.last().map_or_else(String::new, |detail| value::chars(*detail)),
        });
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        writeln!(out, "QUERY PLAN")?;
        let known: BTreeSet<i64> = self.steps.iter().map(|step| step.id).collect();
        let is_top = |step: &&Step| !known.contains(&step.parent) || step.parent == step.id;
        let top: Vec<&Step> = self.steps.iter().filter(is_top).collect();
        // Depth first with a stack of our own; every step is printed at most once.
        let mut stack: Vec<(String, &Step, bool)> = Vec::new();
        push_level(&mut stack, String::new(), &top);
        while let Some((prefix, step, is_last)) = stack.pop() {
            writeln!(out, "{prefix}{}{}", if is_last { "`--" } else { "|--" }, step.detail)?;
            let is_child = |child: &&Step| child.parent == step.id && child.id != step.id;
            let children: Vec<&Step> = self.steps.iter().filter(is_child).collect();
            let deeper = format!("{prefix}{}", if is_last { "   " } else { "|  " });
            push_level(&mut stack, deeper, &children);
        }
        Ok(())
    }
}

fn push_level<'a>(stack: &mut Vec<(String, &'a Step, bool)>, prefix: String, level: &[&'a Step]) {
    for (index, step) in level.iter().rev().enumerate() {
        stack.push((prefix.clone(), step, index == 0));
    }
}
