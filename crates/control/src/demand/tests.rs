use proptest::prelude::*;
use uuid::Uuid;

use super::book::{Book, MOST_KINDS, SETTLED};
use super::*;

const SPEC: StreamSpec = StreamSpec { width: 1280, height: 720, frames_per_second: 60 };
const GUESS: Demand = Demand { cpu_milli: 1150, memory_mib: 1184, egress_kbps: 8500 };

fn session(number: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(number))
}

fn at(second: i64) -> UtcTime {
    UtcTime::from_unix_ms(second * 1000)
}

fn key(release: u32) -> Key {
    Key::new(&"quake".parse().unwrap(), Some(release), SPEC)
}

fn usage(sample: u32, (cpu_milli, memory_mib, egress_kbps): (u32, u32, u32)) -> InstanceUsage {
    InstanceUsage { sample, cpu_milli, memory_mib, egress_kbps, is_starved: false }
}

/// A session that takes this all the time, from its first measurement to its end.
fn play(book: &mut Book, number: u128, key: &Key, amounts: (u32, u32, u32), samples: u32) {
    for sample in 1..=samples {
        book.measured(session(number), 1, key, &usage(sample, amounts), at(i64::from(sample)));
    }
    book.ended(session(number));
}

fn asked(book: &Book, key: &Key) -> (u32, u32, u32, bool) {
    let Asked { demand, is_known } = book.asked(key, || GUESS);
    (demand.cpu_milli, demand.memory_mib, demand.egress_kbps, is_known)
}

const GUESSED: (u32, u32, u32, bool) = (1150, 1184, 8500, false);

#[test]
fn the_guess_comes_from_the_manifest_and_the_picture() {
    let check = |cpus, memory_mb, spec, expected: (u32, u32, u32)| {
        let Demand { cpu_milli, memory_mib, egress_kbps } =
            guess(&Limits { cpus, memory_mb, ..Limits::default() }, spec);
        assert_eq!((cpu_milli, memory_mib, egress_kbps), expected);
    };
    check(2.0, 2048, SPEC, (1200, 1184, 8500));
    check(1.0, 512, StreamSpec { width: 640, height: 360, frames_per_second: 30 }, (350, 416, 1250));
    check(8.0, 16_384, StreamSpec { width: 1920, height: 1080, frames_per_second: 60 }, (3500, 8352, 18_750));
}

#[test]
fn before_a_minute_was_measured_the_guess_counts_or_what_is_above_it() {
    let mut book = Book::default();
    assert_eq!(asked(&book, &key(1)), GUESSED);
    for sample in 1..SETTLED {
        let memory = if sample > 3 { 1500 } else { 300 };
        book.measured(session(1), 1, &key(1), &usage(sample, (200, memory, 900)), at(0));
        let expected = if sample > 3 { (1150, 1504, 8500, false) } else { GUESSED };
        assert_eq!(asked(&book, &key(1)), expected, "{sample}");
    }
    book.measured(session(1), 1, &key(1), &usage(SETTLED, (200, 300, 900)), at(0));
    assert_eq!(asked(&book, &key(1)), (200, 1504, 1000, true), "what is known is below the guess");
}

#[test]
fn what_lasts_counts_at_once_and_one_busy_moment_does_not() {
    let mut book = Book::default();
    play(&mut book, 1, &key(1), (500, 400, 4000), 30);
    assert_eq!(asked(&book, &key(1)), (500, 416, 4000, true));
    let before = book.version();
    // One measurement of the processor, and the network, is a moment; of the memory it is what has to be there.
    book.measured(session(2), 1, &key(1), &usage(1, (500, 400, 4000)), at(0));
    book.measured(session(2), 1, &key(1), &usage(2, (1900, 700, 9000)), at(0));
    book.measured(session(2), 1, &key(1), &usage(2, (1900, 700, 9000)), at(0));
    book.measured(session(2), 1, &key(1), &usage(3, (500, 400, 4000)), at(0));
    assert_eq!(asked(&book, &key(1)), (500, 704, 4000, true));
    assert_ne!(book.version(), before);
    book.measured(session(2), 1, &key(1), &usage(4, (1700, 400, 4000)), at(0));
    book.measured(session(2), 1, &key(1), &usage(5, (1900, 400, 4000)), at(0));
    assert_eq!(asked(&book, &key(1)), (1700, 704, 4000, true));
    // Another start of it begins to count anew, and forgets nothing.
    book.measured(session(2), 2, &key(1), &usage(1, (1900, 400, 4000)), at(0));
    assert_eq!(asked(&book, &key(1)), (1700, 704, 4000, true));
}

#[test]
fn a_session_that_takes_more_than_its_place_says_so() {
    let mut book = Book::default();
    let placed = Demand { cpu_milli: 1000, memory_mib: 640, egress_kbps: 0 };
    assert_eq!(book.grown(session(1), placed), None);
    for sample in 1..4 {
        book.measured(session(1), 1, &key(1), &usage(sample, (1080, 600, 0)), at(0));
    }
    assert_eq!(book.grown(session(1), placed), None, "an eighth is not worth a write");
    for sample in 4..6 {
        book.measured(session(1), 1, &key(1), &usage(sample, (1810, 100, 0)), at(0));
    }
    let takes = Demand { cpu_milli: 1850, ..placed };
    assert_eq!(book.grown(session(1), placed), Some(takes));
    assert_eq!(book.grown(session(1), takes), None);
}

#[test]
fn estimates_fall_slowly_and_never_for_want() {
    let mut book = Book::default();
    play(&mut book, 1, &key(1), (4000, 2000, 8000), 30);
    play(&mut book, 2, &key(1), (2000, 400, 8000), 30);
    assert_eq!(asked(&book, &key(1)), (3750, 1824, 8000, true), "by an eighth of the difference");
    for number in 3..7 {
        play(&mut book, number, &key(1), (2000, 400, 8000), 30);
    }
    let (cpu, memory, ..) = asked(&book, &key(1));
    assert!(
        (2900..=3100).contains(&cpu) && (1150..=1300).contains(&memory),
        "half is forgotten after five: {cpu} {memory}"
    );
    for number in 10..100 {
        play(&mut book, number, &key(1), (2000, 400, 8000), 30);
    }
    assert_eq!(asked(&book, &key(1)), (2000, 416, 8000, true));
    // Too short, or starved: it may have taken more at another time.
    play(&mut book, 200, &key(1), (10, 10, 10), SETTLED - 1);
    for sample in 1..=40 {
        let starved = InstanceUsage { is_starved: sample > SETTLED, ..usage(sample, (10, 10, 10)) };
        book.measured(session(201), 1, &key(1), &starved, at(0));
    }
    book.ended(session(201));
    assert_eq!(asked(&book, &key(1)), (2000, 416, 8000, true));
    // What one in ten takes stays.
    for number in 300..400 {
        let cpu = if number % 10 == 0 { 4000 } else { 2000 };
        play(&mut book, number, &key(1), (cpu, 400, 8000), 30);
    }
    assert!(asked(&book, &key(1)).0 >= 2500, "{:?}", asked(&book, &key(1)));
}

#[test]
fn what_is_near_is_better_than_a_guess() {
    let mut book = Book::default();
    let at_spec = |width, height| Key::new(&"quake".parse().unwrap(), Some(1), StreamSpec { width, height, ..SPEC });
    play(&mut book, 1, &at_spec(1280, 720), (1000, 800, 6000), 30);
    assert_eq!(asked(&book, &at_spec(960, 540)), (1000, 800, 6000, false), "the next one above");
    assert_eq!(
        asked(&book, &at_spec(1920, 1080)),
        (2250, 800, 13_500, false),
        "the nearest below, and as much more as it has pixels"
    );
    assert_eq!(asked(&book, &key(2)), (1000, 800, 6000, false), "another release at the same spec");
    assert_eq!(asked(&book, &Key { app: "quaker".parse().unwrap(), ..key(2) }), GUESSED, "of another app nothing");
    let directory = Key { release: None, ..key(1) };
    play(&mut book, 2, &directory, (700, 320, 3000), 30);
    assert_eq!(asked(&book, &key(3)).0, 1000, "a release is nearer than the directory of one");
}

#[test]
fn it_is_written_when_it_is_worth_it_and_read_as_it_was() {
    let mut book = Book::default();
    let write = |book: &mut Book| {
        let due = book.due();
        book.written(&due);
        due.write.len()
    };
    book.measured(session(1), 1, &key(1), &usage(1, (500, 400, 4000)), at(0));
    assert_eq!(write(&mut book), 0, "a first measurement says nothing");
    book.measured(session(1), 1, &key(1), &usage(2, (500, 400, 4000)), at(0));
    assert_eq!((write(&mut book), write(&mut book)), (1, 0));
    let mut writes = 0;
    for sample in 3..2000 {
        book.measured(session(1), 1, &key(1), &usage(sample, (500 + sample % 50, 400, 4000)), at(0));
        writes += write(&mut book);
    }
    assert_eq!(writes, 1, "once, when it is settled");
    book.ended(session(1));
    assert_eq!(write(&mut book), 0);
    let (all, mut after) = (book.all(), Book::default());
    after.load(all.clone());
    assert_eq!((after.all(), after.due().is_empty()), (all, true));
    assert_eq!(asked(&after, &key(1)), asked(&book, &key(1)));
}

#[test]
fn kinds_and_sessions_are_bounded() {
    let mut book = Book::default();
    let count = u32::try_from(MOST_KINDS).unwrap() + 10;
    for number in 1..=count {
        let key = key(number);
        for sample in 1..3 {
            book.measured(session(number.into()), 1, &key, &usage(sample, (1, 1, 1)), at(number.into()));
        }
        let due = book.due();
        book.written(&due);
    }
    assert_eq!(book.counts(), (MOST_KINDS, count as usize));
    assert_eq!(asked(&book, &key(1)).0, 1150, "the oldest went");
    book.retain(|id| id == session(1));
    assert_eq!(book.counts().1, 1);
    // The database holds what it was told, and no more.
    let (mut rows, mut other) = (std::collections::BTreeSet::new(), Book::default());
    for number in 1..=count {
        for sample in 1..3 {
            other.measured(session(number.into()), 1, &key(number), &usage(sample, (1, 1, 1)), at(number.into()));
        }
        if number % 50 == 0 || number == count {
            let due = other.due();
            rows.extend(due.write.iter().map(|(key, _)| key.clone()));
            due.remove.iter().for_each(|key| assert!(rows.remove(key)));
            other.written(&due);
        }
    }
    assert_eq!(rows.len(), MOST_KINDS);
}

proptest! {
    /// Whatever is measured: the estimate is never above what was ever measured, what is asked for is in whole steps, and a session that lives is
    /// never counted with less than what lasted in it.
    #[test]
    fn estimates_stay_below_what_was_seen_and_places_above_what_lasts(
        steps in prop::collection::vec((0..4_u128, 0..3000_u32, 1..4000_u32, prop::bool::weighted(0.05), any::<bool>()), 1..400),
    ) {
        let mut book = Book::default();
        let mut samples = [0_u32; 4];
        let mut last: [Option<u32>; 4] = [None; 4];
        let (mut lasting, mut most) = ([0_u32; 4], Demand::default());
        for (who, cpu, memory, ends, is_starved) in steps {
            let index = usize::try_from(who).unwrap();
            if ends {
                book.ended(session(who));
                (samples[index], last[index], lasting[index]) = (0, None, 0);
            } else {
                samples[index] += 1;
                let measured = InstanceUsage { is_starved, ..usage(samples[index], (cpu, memory, 0)) };
                book.measured(session(who), 1, &key(1), &measured, at(0));
                if let Some(before) = last[index].replace(cpu) {
                    lasting[index] = lasting[index].max(before.min(cpu));
                }
                most = most.most(Demand::from(&measured));
            }
            let estimate = book.asked(&key(1), Demand::default).demand;
            prop_assert_eq!(estimate, estimate.rounded());
            prop_assert!(!estimate.clearly_exceeds(most.rounded()));
            // Another session's end may have lowered the estimate below it; what its place is to be is not.
            for (who, lasts) in (0..).zip(lasting) {
                let grown = book.grown(session(who), Demand::default()).map_or(0, |grown| grown.cpu_milli);
                prop_assert!(grown >= lasts, "{grown} of {lasts}");
            }
        }
    }
}
