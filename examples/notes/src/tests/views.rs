//! The other views, and what the bottom line says.

use super::*;

#[test]
fn history_shows_what_changed_and_puts_it_back() {
    let mut pair = Pair::new();
    pair.at(BOB).select("buy milk").keys("2");
    pair.exchange();
    pair.at(ANN).select("buy milk").key(KeyCode::Enter);
    pair.keys(" now");
    pair.key(KeyCode::Enter);
    pair.exchange();
    pair.key(KeyCode::F(5));
    for _ in 0..8 {
        pair.two.app.tick_within(pair.now_ms, TIMEOUT / 10);
        if let Mode::History(history) = &pair.two.app.sides[ANN].screen.mode
            && history.versions.is_some()
        {
            break;
        }
    }
    let half = pair.half(ANN);
    has(&half, "ann: title");
    has(&half, "bob: priority");
    has(&half, "ann: made");
    (0..9).for_each(|_| pair.key(KeyCode::Down));
    pair.keys("r");
    has(&pair.notice(ANN), "an ordinary change on top");
    pair.exchange();
    for side in [ANN, BOB] {
        pair.at(side).select("buy milk");
        assert_eq!(pair.agreed(side, "title"), "buy milk and bread");
        assert_eq!(pair.agreed(side, "priority"), "0");
    }
}

#[test]
fn bold_words_are_bold() {
    let mut pair = Pair::new();
    pair.at(ANN).select("plan the trip");
    let buffer = pair.buffer(120, 32);
    let shown = text(&buffer);
    let at = shown.chars().filter(|char| *char != '\n').collect::<String>();
    let byte = at.find("Friday").expect("the text is shown");
    let at = at[..byte].chars().count();
    let is_bold = |at: usize| buffer.content[at].modifier.contains(Modifier::BOLD);
    assert!(is_bold(at) && is_bold(at + 5) && !is_bold(at - 2) && !is_bold(at + 8), "{shown}");
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    let mut pair = Pair::new();
    pair.at(ANN).key(KeyCode::F(3));
    for key in [KeyCode::F(5), KeyCode::F(6)] {
        pair.key(key);
        has(&pair.notice(ANN), "F3");
    }
    pair.select("plan the trip").key(KeyCode::BackTab);
    has(&pair.notice(ANN), "top level");
    pair.key(KeyCode::Tab);
    has(&pair.notice(ANN), "no note above");
    pair.keys("?");
    has(&pair.screen(), "changed here, and nobody else knows yet");
    pair.keys("q");
    assert!(!pair.two.app.has_ended);
    pair.keys("q");
    assert!(pair.two.app.has_ended);
}

#[test]
fn a_server_that_is_gone_is_a_line_and_work_goes_on() {
    let mut pair = Pair::new();
    let bucket = pair.two.root.path().join("bucket");
    std::fs::remove_dir_all(&bucket).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file in the bucket's place: nothing answers")]
    std::fs::write(&bucket, "").unwrap();
    pair.at(ANN).select("buy milk").keys("2");
    pair.key(KeyCode::F(6));
    for _ in 0..8 {
        pair.two.app.tick_within(pair.now_ms, TIMEOUT / 10);
        if !pair.notice(ANN).is_empty() {
            break;
        }
    }
    has(&pair.notice(ANN), " - ");
    has(&pair.half(ANN), "1 note changed only here");
    pair.keys("3");
    has(&pair.half(ANN), "P3");
}

#[test]
fn without_room_for_both_the_active_side_is_shown() {
    let mut pair = Pair::new();
    pair.at(BOB);
    let narrow = text(&pair.buffer(70, 24));
    has(&narrow, "bob");
    has_not(&narrow, "ann - ");
    for (width, height) in [(1, 1), (10, 3), (48, 8), (200, 60)] {
        pair.buffer(width, height);
    }
}

#[test]
fn the_readme_shows_the_screen() {
    let mut pair = Pair::new();
    pair.at(ANN).key(KeyCode::F(3));
    pair.select("buy milk").key(KeyCode::Enter);
    pair.keys(" today");
    pair.key(KeyCode::Enter);
    pair.at(BOB).select("plan the trip");
    pair.key(KeyCode::Home);
    let shown = text(&pair.buffer(110, 24));
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    let shown = lines.join("\n");
    has(include_str!("../../README.md"), shown.trim_end());
}
