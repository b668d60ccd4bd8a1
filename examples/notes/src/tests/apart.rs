//! What two people do apart, and what comes of it.

use super::*;
use crate::desk::{Desk, DeskOptions};

#[test]
fn a_title_that_both_edited_apart_has_the_words_of_both() {
    let mut pair = Pair::new();
    has(&pair.half(ANN), "ONLINE  all agreed");
    pair.toggle_both();
    pair.at(ANN).select("buy milk").key(KeyCode::Enter);
    pair.keys(" today");
    pair.key(KeyCode::Enter);
    has(&pair.half(ANN), "OFFLINE");
    has(&pair.half(ANN), "only here");
    has(&pair.half(ANN), "*  [ ] buy milk and bread today");
    has_not(&pair.half(BOB), "only here");
    pair.at(BOB).select("buy milk").key(KeyCode::Enter);
    pair.key(KeyCode::Home);
    pair.keys("please ");
    pair.key(KeyCode::Enter);
    has(&pair.half(BOB), "*  [ ] please buy milk and bread");
    pair.toggle_both();
    pair.exchange();
    for side in [ANN, BOB] {
        let half = pair.half(side);
        has(&half, "   [ ] please buy milk and bread today");
        has(&half, "ONLINE  all agreed");
        has_not(&half, "*");
    }
}

#[test]
fn a_priority_that_both_set_apart_is_chosen_in_the_list_of_conflicts() {
    let mut pair = Pair::new();
    pair.toggle_both();
    pair.at(ANN).select("buy milk").keys("1");
    pair.at(BOB).select("buy milk").keys("3");
    has_not(&pair.screen(), "to look at");
    pair.toggle_both();
    pair.exchange();
    for side in [ANN, BOB] {
        has(&pair.half(side), "! 1 to look at: F4");
        has(&pair.half(side), " ! [ ] P");
        has(&pair.half(side), "(F4: choose)");
    }
    pair.at(ANN).key(KeyCode::F(4));
    let half = pair.half(ANN);
    has(&half, "several values: priority of buy milk");
    has(&half, "key 1 for priority");
    has(&half, "(shown until somebody chooses)");
    let siblings = pair.two.app.sides[ANN].screen.conflicts[0].siblings.clone();
    assert_eq!(siblings.len(), 2);
    // The older one: not what the cell shows.
    let Value::Int(older) = siblings[0] else { panic!("{siblings:?}") };
    pair.keys("1");
    pair.exchange();
    for side in [ANN, BOB] {
        pair.at(side).key(KeyCode::F(4));
        has(&pair.half(side), "Nothing to look at");
        pair.key(KeyCode::Esc);
        pair.select("buy milk");
        assert_eq!(pair.agreed(side, "priority"), older.to_string());
        has_not(&pair.half(side), "!");
    }
}

#[test]
fn the_value_that_is_shown_can_be_chosen_too() {
    let mut pair = Pair::new();
    pair.toggle_both();
    pair.at(ANN).select("buy milk").keys("1");
    pair.at(BOB).select("buy milk").keys("3");
    pair.toggle_both();
    pair.exchange();
    pair.at(BOB).key(KeyCode::F(4));
    let shown = pair.two.app.sides[BOB].screen.conflicts[0].stands.clone();
    pair.keys("2");
    pair.exchange();
    assert!(pair.two.app.sides.iter().all(|side| side.screen.conflicts.is_empty()));
    assert_eq!(Some(Value::from(pair.agreed(BOB, "priority").parse::<i64>().unwrap())), shown);
}

#[test]
fn a_text_does_not_jump_while_it_is_typed() {
    let mut pair = Pair::new();
    // Nothing but what this test exchanges.
    for side in &pair.two.app.sides {
        side.desk.site.go_manual().unwrap();
    }
    pair.at(ANN).select("buy milk").key(KeyCode::Enter);
    pair.key(KeyCode::Home);
    (0..4).for_each(|_| pair.key(KeyCode::Right));
    pair.keys("oat");
    assert_eq!(pair.typed(ANN), "buy oat|milk and bread");
    // Bob's words arrive in the middle of a word.
    let id = pair.two.app.sides[ANN].screen.current().unwrap().note.id.clone();
    let bob = &pair.two.app.sides[BOB].desk;
    bob.set(&id, "title", &"please buy milk and bread".into()).unwrap();
    bob.site.exchange(TIMEOUT).unwrap();
    pair.two.app.sides[ANN].desk.site.exchange(TIMEOUT).unwrap();
    pair.two.app.tick(pair.now_ms);
    assert_eq!(pair.typed(ANN), "buy oat|milk and bread");
    // What she typed is written, and is not agreed on yet.
    pair.keys(" ");
    assert_eq!(pair.typed(ANN), "buy oat |milk and bread");
    pair.pause();
    assert!(pair.typed(ANN).contains("oat |milk"), "{}", pair.typed(ANN));
    pair.exchange();
    pair.pause();
    assert_eq!(pair.typed(ANN), "please buy oat |milk and bread");
    pair.key(KeyCode::Enter);
    assert_eq!(pair.titles(BOB).last().unwrap(), "please buy oat milk and bread");
}

#[test]
fn paragraphs_that_both_changed_apart_are_both_there() {
    let mut pair = Pair::new();
    pair.toggle_both();
    pair.at(ANN).select("plan the trip").keys("e");
    pair.key(KeyCode::Home);
    pair.keys("**Really**, ");
    pair.key(KeyCode::Esc);
    pair.at(BOB).select("plan the trip").keys("e");
    (0..3).for_each(|_| pair.key(KeyCode::Up));
    pair.key(KeyCode::End);
    pair.keys(" Or\nat one.");
    pair.key(KeyCode::Esc);
    has(&pair.half(BOB), "at one.");
    pair.toggle_both();
    pair.exchange();
    assert_eq!(pair.agreed(ANN, "body"), pair.agreed(BOB, "body"));
    for part in ["at noon. Or", "at one.", "Really, Ann brings"] {
        has(&pair.half(ANN), part);
        has(&pair.half(BOB), part);
    }
    let body = pair.agreed(ANN, "body");
    assert!(body.contains("id=\"when\"") && body.contains("id=\"who\""), "{body}");
}

#[test]
fn tags_of_both_are_there() {
    let mut pair = Pair::new();
    pair.toggle_both();
    for (side, tags) in [(ANN, "shop, food"), (BOB, "food, week")] {
        pair.at(side).select("buy milk").keys("t");
        pair.keys(tags);
        pair.key(KeyCode::Enter);
    }
    pair.toggle_both();
    pair.exchange();
    for tag in ["#food", "#shop", "#week"] {
        has(&pair.half(ANN), tag);
        has(&pair.half(BOB), tag);
    }
}

#[test]
fn a_note_that_is_deleted_under_an_editor_says_so() {
    let mut pair = Pair::new();
    pair.at(ANN).select("pack the tent").key(KeyCode::Enter);
    let id = pair.two.app.sides[ANN].screen.current().unwrap().note.id.clone();
    pair.two.app.sides[BOB].desk.delete(&id).unwrap();
    pair.exchange();
    pair.pause();
    has(&pair.notice(ANN), "somebody has deleted this note");
    assert!(pair.two.app.sides[ANN].screen.edit().is_none());
    // By keys it is asked about first.
    pair.select("plan the trip").keys("x");
    has(&pair.notice(ANN), "x deletes");
    pair.keys("n");
    assert_eq!(pair.titles(ANN).len(), 3);
    pair.keys("xx");
    pair.exchange();
    assert_eq!(pair.titles(BOB), ["buy milk and bread"]);
}

#[test]
fn notes_moved_and_made_apart_stand_alike_everywhere() {
    let mut pair = Pair::new();
    pair.toggle_both();
    pair.at(ANN).select("buy milk").key(KeyCode::Tab);
    pair.at(BOB).select("book the train").keys("nask Cy");
    pair.key(KeyCode::Enter);
    pair.select("pack the tent").key(KeyCode::BackTab);
    pair.toggle_both();
    pair.exchange();
    assert_eq!(pair.titles(ANN), pair.titles(BOB));
    let expected =
        ["plan the trip", ".book the train", ".ask Cy", ".buy milk and bread", "pack the tent"];
    assert_eq!(pair.titles(ANN), expected);
    // One place, twice: both stay, and moving one up asks for no room between them.
    pair.toggle_both();
    for (side, title) in [(ANN, "one"), (BOB, "two")] {
        pair.at(side).select("plan the trip").keys("n");
        pair.keys(title);
        pair.key(KeyCode::Enter);
    }
    pair.toggle_both();
    pair.exchange();
    assert_eq!(pair.titles(ANN), pair.titles(BOB));
    let last = pair.titles(ANN).into_iter().rfind(|t| t == "one" || t == "two");
    pair.at(ANN).select(&last.unwrap()).keys("K");
    pair.exchange();
    assert_eq!(pair.titles(ANN), pair.titles(BOB));
    assert_eq!(pair.notice(ANN), "");
}

#[test]
fn two_that_began_apart_have_the_notes_of_both() {
    let root = tempfile::tempdir().unwrap();
    let server = format!("file://{}", root.path().join("bucket").display());
    let open = |name: &str| {
        let dir = root.path().join(name);
        let server = Some(server.clone());
        Desk::open(DeskOptions { dir: &dir, server, token: None, site: "notes" }).unwrap()
    };
    // Neither finds the site at the server, so each makes it.
    let desks = [open("ann"), open("bob")];
    for (desk, title) in desks.iter().zip(["of ann", "of bob"]) {
        let id = desk.add(None, false).unwrap();
        desk.set(&id, "title", &title.into()).unwrap();
    }
    for _ in 0..2 {
        for desk in &desks {
            let done = desk.site.exchange(TIMEOUT).unwrap();
            assert_eq!(done.rejected, []);
        }
    }
    for desk in &desks {
        let mut titles: Vec<String> =
            desk.entries().unwrap().into_iter().map(|entry| entry.note.title).collect();
        titles.sort();
        assert_eq!(titles, ["of ann", "of bob"]);
    }
}
