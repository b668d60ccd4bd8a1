//! What is under way to whoever orders it comes out in a prediction as the log will make it.

use sheaf_site::Batch;

use crate::support::{Device, Rng, World, agree, is_long};

const SCHEMA: &str = "CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT, n INT);
    INSERT INTO note VALUES (1, 'once a time', 0)";

fn body(device: &Device) -> String {
    device.local("SELECT body FROM note")
}

fn write(device: &Device, text: &str) {
    device.sql(&format!("UPDATE note SET body = '{text}'"));
}

fn send(device: &Device) -> Batch {
    device.site.outbox(0, usize::MAX).unwrap().unwrap()
}

#[test]
fn a_word_deleted_on_top_of_what_is_under_way_stays_deleted() {
    let world = World::new();
    let [node, a, b] = world.devices(SCHEMA);
    write(&a, "once upon a time");
    let under_way = send(&a);
    // Merged step by step, A's word would come before B's; from where A stood, it comes after.
    for text in ["a time", "such a time"] {
        write(&b, text);
        b.exchange();
        a.pull();
    }
    assert_eq!(body(&a), "such upon a time");
    write(&a, "such a time");
    node.site.lead(&[under_way], &*node.log, 4).unwrap();
    assert_eq!(body(&node), "such upon a time");
    agree(&[&a, &b, &node]);
    assert_eq!(body(&b), "such a time");
}

#[test]
fn the_log_makes_of_it_what_was_shown() {
    for seed in 0..if is_long() { 2_000 } else { 40 } {
        let mut rng = Rng::new(seed);
        let world = World::new();
        let [node, a, b] = world.devices(SCHEMA);
        let mut edit = |device: &Device, at: usize| {
            let text = body(device);
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            if !words.is_empty() && rng.below(3) == 0 {
                words.remove(rng.below(words.len()));
            } else {
                words.insert(rng.below(words.len() + 1), format!("w{at}"));
            }
            write(device, &words.join(" "));
        };
        for at in 0..3 {
            edit(&a, at);
        }
        let under_way = send(&a);
        for at in 10..14 {
            edit(&b, at);
            b.exchange();
            a.pull();
        }
        let shown = body(&a);
        node.site.lead(&[under_way], &*node.log, 4).unwrap();
        assert_eq!(body(&node), shown, "seed {seed}");
        agree(&[&a, &b, &node]);
        assert_eq!(body(&a), shown, "seed {seed}");
    }
}
