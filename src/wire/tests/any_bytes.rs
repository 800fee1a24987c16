//! Any bytes at all, read as datagrams: the fuzzer's assertions in `cargo test`, on a
//! corpus that is the same each time.
//!
//! Promises: every message of `seeds`, cut everywhere, with every byte changed in
//! several ways, spliced, and random bytes behind a right beginning and end; every
//! reason for refusal is met. Is not: as thorough as an hour of the fuzzer.

#[path = "../fuzz/check.rs"]
mod check;
mod messages;

use std::collections::BTreeSet;
use std::path::Path;

use check::check;
use flexcast_wire::{Kind, Malformed, Sequence, Trailer, CONTROL_WORD};
use messages::one_of_each;

/// The fuzzer's seeds: one file a message, beside it.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let expected = one_of_each();
    for (name, bytes) in &expected {
        let file = folder.join(name);
        let seed = std::fs::read(&file).unwrap_or_default();
        assert!(seed == *bytes, "{} is not up to date", file.display());
    }
    expected.into_iter().map(|(_, bytes)| bytes).collect()
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn below(state: &mut u64, n: usize) -> usize {
    let n = u64::try_from(n.max(1)).unwrap();
    usize::try_from(splitmix(state) % n).unwrap()
}

#[test]
fn every_seed_is_read_and_written_back_to_the_byte() {
    for seed in seeds() {
        let control = check(&seed).expect("a seed is a message");
        let mut written = Vec::new();
        control.emit(&mut written);
        assert_eq!(written, seed);
    }
}

#[test]
fn cut_and_changed_messages_are_read_whole_or_refused() {
    for seed in seeds() {
        for length in 0..=seed.len() {
            let _ = check(&seed[..length]);
            let _ = check(&seed[length..]);
            // The trailer kept, bytes before it taken out.
            if length + 16 <= seed.len() {
                let mut short = seed[..length].to_vec();
                short.extend_from_slice(&seed[seed.len() - 16..]);
                let _ = check(&short);
            }
        }
        for at in 0..seed.len() {
            let mut changed = seed.clone();
            for byte in 0..=255 {
                changed[at] = byte;
                let _ = check(&changed);
            }
        }
    }
}

#[test]
fn spliced_and_random_messages_are_read_whole_or_refused() {
    let seeds = seeds();
    let mut state = 1;
    let mut taken = 0;
    for round in 0..100_000 {
        let (a, b) = (
            below(&mut state, seeds.len()),
            below(&mut state, seeds.len()),
        );
        let (a, b) = (&seeds[a], &seeds[b]);
        let mut bytes = a.clone();
        if round % 2 == 1 {
            bytes.truncate(below(&mut state, a.len() + 1));
            bytes.extend_from_slice(&b[below(&mut state, b.len() + 1)..]);
        }
        for _ in 0..below(&mut state, 4) {
            let at = below(&mut state, bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = splitmix(&mut state).to_le_bytes()[0];
            }
        }
        taken += usize::from(check(&bytes).is_ok());

        let mut random: Vec<u8> = CONTROL_WORD.to_be_bytes().to_vec();
        random.push(1 + u8::try_from(below(&mut state, 6)).unwrap());
        for _ in 0..below(&mut state, 64) {
            random.extend_from_slice(&splitmix(&mut state).to_le_bytes());
        }
        let trailer = Trailer {
            token: splitmix(&mut state) | 1,
            sequence: Sequence(0),
            kind: Kind::Control,
        };
        random.extend_from_slice(&trailer.bytes());
        taken += usize::from(check(&random).is_ok());
    }
    assert!(taken > 10_000, "{taken}: some of it must be messages");
}

#[test]
fn every_reason_for_refusal_is_met() {
    let mut met = BTreeSet::new();
    for seed in seeds() {
        for length in 0..seed.len() {
            let mut short = seed[..length].to_vec();
            short.extend_from_slice(&seed[seed.len() - 16..]);
            met.extend(
                [&seed[..length], &short]
                    .iter()
                    .filter_map(|b| check(b).err())
                    .map(Malformed::index),
            );
        }
        for at in 0..seed.len() {
            let mut changed = seed.clone();
            for byte in [0, 1, 2, 3, 8, 24, 65, 255] {
                changed[at] = byte;
                met.extend(check(&changed).err().map(Malformed::index));
            }
        }
        // S and the id as wholes, the nonce, an empty end, a long credential.
        for (at, length) in [(8, 8), (16, 16), (seed.len() - 16, 8)] {
            let mut changed = seed.clone();
            changed[at..at + length].fill(0);
            met.extend(check(&changed).err().map(Malformed::index));
        }
        let mut long = seed[..seed.len() - 16].to_vec();
        long.extend_from_slice(&[1, 65]);
        long.extend_from_slice(&[7; 65]);
        long.extend_from_slice(&seed[seed.len() - 16..]);
        met.extend(check(&long).err().map(Malformed::index));
    }
    let missed = |reason: &&Malformed| !met.contains(&reason.index());
    let missed: Vec<&Malformed> = Malformed::ALL.iter().filter(missed).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
