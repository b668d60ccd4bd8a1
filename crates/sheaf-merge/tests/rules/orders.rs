//! Every order that devices and one sequencer can come to, for a few devices with a few steps each.
//!
//! Invariant: a device does its own steps one after the other; beyond that no order is left out.
//! Long runs in orders that are drawn: see `converge`.

use crate::converge::{Step, check};

/// What a device does, in letters: edit, push, look.
type Program = &'static str;

/// Devices, what each does, and how many orders there are.
const SHORT: &[(usize, Program, usize)] =
    &[(2, "EPEP", 70), (2, "ELEP", 70), (3, "EP", 90), (3, "ELP", 1_680), (4, "EP", 2_520)];
const LONG: &[(usize, Program, usize)] =
    &[(3, "EPEP", 34_650), (3, "EEPL", 34_650), (5, "EP", 113_400)];

/// Calls back with every order of the devices' programs; gives how many there were.
fn orders(devices: usize, program: Program, mut each: impl FnMut(&[Step])) -> usize {
    let letters: Vec<char> = program.chars().collect();
    let mut done = vec![0; devices];
    let mut steps: Vec<Step> = Vec::new();
    // Whose turn was tried at each place so far.
    let mut tried = vec![0];
    let mut count = 0;
    while let Some(device) = tried.last_mut() {
        if steps.len() == devices * letters.len() {
            each(&steps);
            count += 1;
            *device = devices;
        }
        if let Some(next) = (*device..devices).find(|next| done[*next] < letters.len()) {
            *device = next + 1;
            // Edits differ by device and turn, so that all kinds of them meet.
            let pick = (3 * next + 5 * done[next] + count / 7) % 8;
            steps.push(match letters[done[next]] {
                'E' => Step::Edit { device: next, pick },
                'P' => Step::Push { device: next },
                _ => Step::Pull { device: next },
            });
            done[next] += 1;
            tried.push(0);
        } else {
            tried.pop();
            if let Some(Step::Edit { device, .. } | Step::Push { device } | Step::Pull { device }) =
                steps.pop()
            {
                done[device] -= 1;
            }
        }
    }
    count
}

#[test]
fn every_order_of_a_few_steps_converges() {
    let long = if crate::is_long() { LONG } else { &[] };
    for &(devices, program, count) in SHORT.iter().chain(long) {
        let found = orders(devices, program, |steps| check(devices, steps));
        assert_eq!(found, count, "{devices} devices: {program}");
    }
}
