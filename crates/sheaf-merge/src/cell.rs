//! Merging one cell.
//!
//! Invariant: `left = base` gives right and `right = base` gives left, under every rule;
//! `left = right` gives that value under every rule but `counter`, where two equal increments
//! are still two increments. Short cuts come before any work and return values unchanged.

use std::cmp::Ordering;

use crate::custom::{self, CustomRules, NoCustomRules, Sides};
use crate::{Rule, Value, html, json, set, text};

/// The result of merging one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// What the cell becomes. When refused: what it was.
    pub value: Value,
    /// What people should be told, if anything.
    pub note: Option<Note>,
}

/// Something about a merge that its author may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Both sides changed the cell, or one member of it; the later one stands.
    LeftStands,
    /// Both sides changed the cell; the earlier one stands.
    RightStands,
    /// Both sides changed the cell, and both values are to be kept; the later one is shown.
    BothStand,
    /// One side changed a member that the other side removed; it is gone.
    Dropped,
    /// The sum left the range of 64-bit integers and was clamped.
    Clamped,
    /// The rule does not apply to these values; the later one stands.
    Fallback,
    /// The values are too large to be compared throughout: of stretches that both sides changed,
    /// the result has what either made of them, and may have some words twice.
    Coarse,
    /// The rule forbids concurrent changes: the whole mutation must be rejected.
    Refused,
    /// Nobody registered the function of a custom rule, or it failed: refused as well.
    NoFunction,
}

impl Merged {
    fn plain(value: &Value) -> Self {
        Self { value: value.clone(), note: None }
    }

    pub(crate) fn noted(value: &Value, note: Note) -> Self {
        Self { value: value.clone(), note: Some(note) }
    }

    /// Whether the mutation that holds this change must be rejected.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.note, Some(Note::Refused | Note::NoFunction))
    }
}

/// Merges one cell; `base` is `None` where there was no cell, as in a row inserted twice.
///
/// A host with custom rules calls [`merge_cell_with`]: here they refuse.
#[must_use]
pub fn merge_cell(rule: Rule, base: Option<&Value>, left: &Value, right: &Value) -> Merged {
    merge_cell_with(rule, &NoCustomRules, base, left, right)
}

/// Merges one cell, with the functions of custom rules.
#[must_use]
pub fn merge_cell_with(
    rule: Rule,
    custom: &dyn CustomRules,
    base: Option<&Value>,
    left: &Value,
    right: &Value,
) -> Merged {
    // Two devices that both count from 0 to 1 mean 2, so equal results are no short cut there.
    if rule != Rule::Counter && left.same(right) {
        return Merged::plain(left);
    }
    if base.is_some_and(|base| right.same(base)) {
        return Merged::plain(left);
    }
    if base.is_some_and(|base| left.same(base)) {
        return Merged::plain(right);
    }
    match rule {
        // What makes a list is where rows stand among each other; the position itself is a value.
        Rule::Lww | Rule::List => Merged::noted(left, Note::LeftStands),
        Rule::Mvr => Merged::noted(left, Note::BothStand),
        Rule::Fww => Merged::noted(right, Note::RightStands),
        Rule::Keep => Merged::noted(right, Note::Refused),
        Rule::Max if left.sqlite_order(right) == Ordering::Less => Merged::plain(right),
        Rule::Min if left.sqlite_order(right) == Ordering::Greater => Merged::plain(right),
        Rule::Max | Rule::Min => Merged::plain(left),
        Rule::Counter => merge_counter(base, left, right),
        Rule::Text => merge_text(text::merge_noted, base, left, right),
        Rule::Html => merge_text(merge_html, base, left, right),
        Rule::Set => set::merge(base, left, right),
        Rule::Json => json::merge(base, left, right),
        Rule::Custom(name) => custom::merge(custom, name, Sides { base, left, right }),
    }
}

fn merge_counter(base: Option<&Value>, left: &Value, right: &Value) -> Merged {
    // A counter that nobody had set counts from zero.
    let base = match base {
        None | Some(Value::Null) => &Value::Int(0),
        Some(value) => value,
    };
    if let (Value::Int(b), Value::Int(l), Value::Int(r)) = (base, left, right) {
        let sum = i128::from(*r) + (i128::from(*l) - i128::from(*b));
        return match i64::try_from(sum) {
            Ok(sum) => Merged { value: Value::Int(sum), note: None },
            Err(_) => {
                let end = if sum > 0 { i64::MAX } else { i64::MIN };
                Merged { value: Value::Int(end), note: Some(Note::Clamped) }
            }
        };
    }
    match (as_real(base), as_real(left), as_real(right)) {
        (Some(b), Some(l), Some(r)) if (r + (l - b)).is_finite() => {
            Merged { value: Value::Real(r + (l - b)), note: None }
        }
        // Infinities would turn into NULL in SQLite and lose both sides.
        _ if left.same(right) => Merged::plain(left),
        _ => Merged::noted(left, Note::Fallback),
    }
}

/// Merges three texts; NULL is the empty one, and so is a missing base.
fn merge_text(
    merge: fn(&str, &str, &str) -> Option<(String, bool)>,
    base: Option<&Value>,
    left: &Value,
    right: &Value,
) -> Merged {
    let base = base.map_or(Some(""), as_text);
    let (Some(b), Some(l), Some(r)) = (base, as_text(left), as_text(right)) else {
        return Merged::noted(left, Note::Fallback);
    };
    match merge(b, l, r) {
        // What one side wrote stays as it is, NULL too.
        Some((merged, _)) if merged == l => Merged::plain(left),
        Some((merged, _)) if merged == r => Merged::plain(right),
        Some((merged, is_coarse)) => {
            Merged { value: Value::Text(merged), note: is_coarse.then_some(Note::Coarse) }
        }
        None => Merged::noted(left, Note::Fallback),
    }
}

fn merge_html(base: &str, left: &str, right: &str) -> Option<(String, bool)> {
    html::merge_noted(html::Policy::Hoist, base, left, right)
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Null => Some(""),
        Value::Text(text) => Some(text),
        Value::Int(_) | Value::Real(_) | Value::Blob(_) => None,
    }
}

fn as_real(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "mixed sums are reals, as in SQLite")]
        Value::Int(int) => Some(*int as f64),
        Value::Real(real) => Some(*real),
        Value::Null | Value::Text(_) | Value::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        rule: Rule,
        base: Option<Value>,
        left: Value,
        right: Value,
        expected: (Value, Option<Note>),
    ) {
        let merged = merge_cell(rule, base.as_ref(), &left, &right);
        assert_eq!((merged.value, merged.note), expected, "{rule} {base:?} {left:?} {right:?}");
    }

    #[test]
    fn counters() {
        let int = Value::Int;
        let c = Rule::Counter;
        check(c, Some(int(0)), int(1), int(1), (int(2), None));
        check(c, None, int(1), int(1), (int(2), None));
        check(c, Some(Value::Null), int(3), int(4), (int(7), None));
        check(c, Some(int(1)), Value::Real(1.5), int(2), (Value::Real(2.5), None));
        check(c, Some(int(0)), int(i64::MAX), int(5), (int(i64::MAX), Some(Note::Clamped)));
        check(c, Some(int(0)), int(i64::MIN), int(-5), (int(i64::MIN), Some(Note::Clamped)));
        check(c, Some(int(i64::MIN)), int(i64::MAX), int(-1), (int(i64::MAX), Some(Note::Clamped)));
        check(c, Some(int(0)), "x".into(), int(5), ("x".into(), Some(Note::Fallback)));
        check(c, Some(int(0)), Value::Null, Value::Null, (Value::Null, None));
        let infinite = Value::Real(f64::INFINITY);
        check(c, Some(int(0)), infinite.clone(), int(5), (infinite, Some(Note::Fallback)));
    }

    #[test]
    fn keep_refuses_only_real_conflicts() {
        let (a, b, c): (Value, Value, Value) = ("a".into(), "b".into(), "c".into());
        assert!(merge_cell(Rule::Keep, Some(&a), &b, &c).is_refused());
        assert!(merge_cell(Rule::Keep, None, &b, &c).is_refused());
        assert!(!merge_cell(Rule::Keep, Some(&a), &b, &b).is_refused());
        assert!(!merge_cell(Rule::Keep, Some(&a), &b, &a).is_refused());
        assert!(!merge_cell(Rule::Keep, Some(&a), &a, &c).is_refused());
    }

    #[test]
    fn texts_merge_by_words_and_null_is_empty() {
        let text = Rule::Text;
        let (ab, abc): (Value, Value) = ("a b".into(), "a b c".into());
        check(text, Some(ab.clone()), abc.clone(), "x a b".into(), ("x a b c".into(), None));
        check(text, None, ab.clone(), "c".into(), ("a b c".into(), None));
        check(text, Some(ab.clone()), Value::Null, abc.clone(), ("c".into(), None));
        check(text, Some(ab.clone()), Value::Null, "a".into(), (Value::Null, None));
        let fallback = (ab.clone(), Some(Note::Fallback));
        check(text, Some(Value::Int(1)), ab.clone(), abc, fallback.clone());
        check(text, None, ab, Value::Int(1), fallback);
    }

    #[test]
    fn documents_merge_by_blocks_and_words() {
        let html = Rule::Html;
        let base: Value = r#"<p id="a">one two</p>"#.into();
        let left: Value = r#"<p id="a">one two three</p>"#.into();
        let right: Value = r#"<p id="a">zero one two</p><p id="b">new</p>"#.into();
        let merged: Value = r#"<p id="a">zero one two three</p><p id="b">new</p>"#.into();
        check(html, Some(base.clone()), left.clone(), right, (merged, None));
        check(html, Some(base), left.clone(), Value::Int(1), (left, Some(Note::Fallback)));
    }

    #[test]
    fn a_missing_base_differs_from_null() {
        let (a, null): (Value, Value) = ("a".into(), Value::Null);
        let stands = (null.clone(), Some(Note::LeftStands));
        check(Rule::Lww, None, null.clone(), a.clone(), stands);
        check(Rule::Lww, Some(null.clone()), null, a.clone(), (a, None));
    }
}
