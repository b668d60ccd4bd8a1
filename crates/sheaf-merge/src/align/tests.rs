//! Alignment against a plain table, and the vectors' arguments about ties.

use proptest::prelude::*;

use super::{gap::merge_lists, *};

fn tokens(keys: &[u32]) -> Vec<Token> {
    let weight = |key: u32| [4, 1, 2, 4].get(key as usize % 4).copied().unwrap_or(1);
    keys.iter().map(|&key| Token { key, weight: weight(key) }).collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn lists(base: &str, left: &str, right: &str) -> String {
    merge_lists(&words(base), &words(left), &words(right)).join(" ")
}

/// The specification's table and walk, word for word.
fn reference(a: &[Token], b: &[Token]) -> Vec<(usize, usize)> {
    let mut s = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            s[i][j] = if a[i].key == b[j].key {
                s[i + 1][j + 1] + u32::from(a[i].weight)
            } else {
                s[i + 1][j].max(s[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i].key == b[j].key {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if s[i + 1][j] >= s[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

fn edited(alphabet: u32, len: usize) -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
    let edit = (0..len.max(1), 0_usize..4, proptest::collection::vec(0..alphabet, 0..4));
    (proptest::collection::vec(0..alphabet, 0..len), proptest::collection::vec(edit, 0..12))
        .prop_map(|(base, edits)| {
            let mut side = base.clone();
            for (at, gone, new) in edits {
                let at = at.min(side.len());
                let end = (at + gone).min(side.len());
                side.splice(at..end, new);
            }
            (base, side)
        })
}

fn check_alignment(base: &[Token], side: &[Token]) {
    let alignment = align(base, side);
    let mut last = None;
    for (i, token) in base.iter().enumerate() {
        if let Some(j) = alignment.kept(i) {
            assert_eq!(token.key, side[j].key);
            assert!(last < Some(j));
            last = Some(j);
        }
    }
    let gone: usize = alignment.hunks().iter().map(|hunk| hunk.base.len()).sum();
    let come: usize = alignment.hunks().iter().map(|hunk| hunk.side.len()).sum();
    assert_eq!(base.len() - gone, side.len() - come);
    assert_eq!(alignment.origins(side.len()).iter().flatten().count(), side.len() - come);
}

/// Either band, and that no more cells are counted than were foreseen.
fn check_tables(a: &[Token], b: &[Token]) {
    let walk = reference(a, b);
    assert_eq!(lcs::longest(a, b), walk);
    let mut cells = lcs::cells_max(a.len(), b.len());
    assert_eq!(lcs::longest_within(a, b, &mut cells), Some(walk));
}

proptest! {
    #[test]
    fn the_band_gives_the_tables_walk((a, b) in edited(6, 90)) {
        let (a, b) = (tokens(&a), tokens(&b));
        check_tables(&a, &b);
    }

    #[test]
    fn the_band_gives_the_tables_walk_for_strangers(
        a in proptest::collection::vec(0_u32..40, 0..120),
        b in proptest::collection::vec(0_u32..40, 0..40),
    ) {
        let (a, b) = (tokens(&a), tokens(&b));
        check_tables(&a, &b);
        check_tables(&b, &a);
    }

    #[test]
    fn alignments_are_sound_and_as_heavy_as_can_be((a, b) in edited(5, 40)) {
        let (a, b) = (tokens(&a), tokens(&b));
        check_alignment(&a, &b);
        let alignment = align(&a, &b);
        let weight = |i: usize| u32::from(a[i].weight);
        let ours: u32 = (0..a.len()).filter(|&i| alignment.kept(i).is_some()).map(weight).sum();
        prop_assert_eq!(ours, reference(&a, &b).into_iter().map(|(i, _)| weight(i)).sum::<u32>());
    }

    #[test]
    fn lists_keep_every_insert_and_no_deleted_member((base, left) in edited(30, 20), right in proptest::collection::vec(0_u32..30, 0..20)) {
        prop_assert_eq!(merge_lists(&base, &base, &right), right.clone());
        prop_assert_eq!(merge_lists(&base, &left, &base), left.clone());
        prop_assert_eq!(merge_lists(&base, &left, &left), left.clone());
        let one = merge_lists(&base, &left, &right);
        prop_assert_eq!(merge_lists(&right, &one, &right), one.clone());
        let sorted = |mut list: Vec<u32>| { list.sort_unstable(); list };
        prop_assert_eq!(sorted(one), sorted(merge_lists(&base, &right, &left)));
    }
}

#[test]
fn ties_fall_as_the_vectors_say() {
    assert_eq!(lists("A B", "B A", "A X B"), "X B A");
    assert_eq!(lists("1 2 3", "2 1 3", "1 3 2"), "1 3 2");
    assert_eq!(lists("A B C D", "D A B C", "A B C D E"), "D A B C E");
    assert_eq!(lists("a a a a", "a a a", "a a a a a"), "a a a a");
}

#[test]
fn equal_appends_meet_although_the_front_was_replaced() {
    assert_eq!(lists("b f f d c", "b f f d c c", "x f d c c"), "x f d c c");
}

#[test]
fn large_ranges_use_anchors_and_end() {
    // 3,000 against 3,000 tokens exceed the table; every hundredth token is unique.
    let base: Vec<u32> = (0..3_000).map(|i| if i % 100 == 7 { i + 10 } else { i % 3 }).collect();
    let side: Vec<u32> = base.iter().rev().copied().chain([1, 2]).collect();
    check_alignment(&tokens(&base), &tokens(&side));
    let shifted: Vec<u32> = [5].into_iter().chain(base.iter().copied()).chain([6]).collect();
    let alignment = align(&tokens(&base), &tokens(&shifted));
    assert_eq!(alignment.hunks().len(), 2);
    assert_eq!(alignment.hunks()[0].side, 0..1);
}

#[test]
fn without_anchors_a_large_range_is_replaced() {
    let base: Vec<u32> = std::iter::repeat_n([1, 2], 1_500).flatten().collect();
    let side: Vec<u32> = std::iter::repeat_n([2, 2, 1], 1_500).flatten().collect();
    let alignment = align(&tokens(&base), &tokens(&side));
    check_alignment(&tokens(&base), &tokens(&side));
    assert!(alignment.hunks().iter().any(|hunk| hunk.base.len() > 2_000));
}
