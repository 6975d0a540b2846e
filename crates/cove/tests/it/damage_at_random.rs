//! Damage at random: a byte that is flipped, an object that is cut or gone, of any class, and the same of
//! the databases in the home. What is hit is noticed and named, what is read is right or an error, and
//! everything is well again when the object is back.
//!
//! `COVE_ROUND=<number>` runs one round alone, of the seed that `COVE_SEED` gives.

mod databases;
mod harm;
mod history;
mod lost_heads;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cove_testkit::proof::{Chance, figure, rounds, seed};
use serde_json::Value;

use self::harm::{Harm, Harmed};
use self::history::{History, Named, Read};
use crate::harness::{list, text};

/// The rounds to run: all of so many, or the one that was asked for.
fn numbers(sample: usize, all: usize) -> Vec<u64> {
    let only = std::env::var("COVE_ROUND").ok().and_then(|text| text.parse().ok());
    only.map_or_else(|| (0..rounds(sample, all) as u64).collect(), |number| vec![number])
}

/// The chance of one round.
fn chance_of(seed: u64, number: u64) -> Chance {
    let mut chance = Chance::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
    // seeds that are near each other begin alike
    for _ in 0..8 {
        chance.bits();
    }
    chance
}

/// An object that a head names, or a head.
#[derive(Debug, Clone)]
struct Target {
    class: &'static str,
    key: String,
    place: PathBuf,
}

/// The classes of objects that matter, each as often as it deserves.
const CLASSES: [&str; 10] =
    ["pack", "head", "pack", "index", "pack", "pack", "head", "pack", "index", "pack"];

/// One of the objects of the class that the round with this number is about.
fn target(history: &History, number: u64, chance: &mut Chance) -> Target {
    let Named { heads, packs, indexes } = history.named();
    let class = CLASSES[number as usize % CLASSES.len()];
    let keys = match class {
        "pack" => packs,
        "index" => indexes,
        _ => heads,
    };
    let key = chance.pick(&keys).unwrap_or_else(|| panic!("there is no {class}")).clone();
    Target { class, place: history.objects().join(&key), key }
}

/// What could not be read, by project and entry.
type Unread = BTreeMap<(String, String), BTreeSet<String>>;

/// Reads every file at every entry; says what could not be read, and in `wrong` what was read and is
/// something else.
fn read_all(history: &History, wrong: &mut Vec<String>) -> Unread {
    let mut unread = Unread::new();
    for project in &history.projects {
        for (entry, files) in project.states() {
            if let Some(names) = history.names(&project.slug, entry)
                && !names.iter().eq(files.keys())
            {
                wrong.push(format!("{}@{entry} lists {names:?}", project.slug));
            }
            for (path, bytes) in files {
                match history.read(&project.slug, entry, path, bytes) {
                    Read::Right => {}
                    Read::Refused => {
                        let state = (project.slug.clone(), entry.to_owned());
                        unread.entry(state).or_default().insert(path.clone());
                    }
                    Read::Wrong(what) => {
                        wrong.push(format!("{}@{entry}:/{path}: {what}", project.slug));
                    }
                }
            }
        }
    }
    unread
}

/// Whether a problem names a file: itself, or a directory that holds it, or, where a part of the tree is
/// lost with the names in it, what lies before and after that part.
fn names(problem: &Value, project: &str, entry: &str, path: &str) -> bool {
    let of_state = problem["project"] == project
        && match entry {
            "now" => problem["entry"].is_null(),
            entry => problem["entry"] == entry,
        };
    let is_path = |named: &Value| {
        let named = text(named);
        named == "." || named == path || path.starts_with(&format!("{named}/"))
    };
    of_state
        && (list(&problem["paths"]).iter().any(is_path)
            || is_within(&text(&problem["what"]), &format!("files/{path}")))
}

/// Whether a path lies in the part of a tree that a problem calls lost.
fn is_within(what: &str, path: &str) -> bool {
    if !what.starts_with("a part of the tree is lost") {
        return false;
    }
    if what.contains("; it is all of it") {
        return true;
    }
    let Some((_, part)) = what.split_once("; it is what comes ") else { return false };
    // the first word of what comes after one, as no path here has a blank
    let after = |word: &str| {
        let (_, rest) = part.split_once(word)?;
        rest.split([' ', ';']).next()
    };
    let (from, to) = (after("from "), after("before "));
    let path = in_tree(path);
    (from.is_some() || to.is_some())
        && from.is_none_or(|from| in_tree(from) <= path)
        && to.is_none_or(|to| path < in_tree(to))
}

/// A path as trees order it: what is in one directory lies together.
fn in_tree(path: &str) -> Vec<u8> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{}\0\0{name}", parent.replace('/', "\0")).into_bytes()
}

/// Compares what `verify` says with what cannot be read.
fn judged(code: i32, problems: &[Value], target: &Target, unread: &Unread) -> Vec<String> {
    let mut wrong = Vec::new();
    if code != 8 {
        wrong.push(format!("verify exits with {code}"));
    }
    if !problems.iter().any(|problem| problem["object"] == target.key.as_str()) {
        let first = problems.first().map_or("nothing".to_owned(), Value::to_string);
        let first: String = first.chars().take(300).collect();
        wrong.push(format!("the object is named nowhere; the first is {first}"));
    }
    for ((project, entry), paths) in unread {
        for path in paths {
            if !problems.iter().any(|problem| names(problem, project, entry, path)) {
                wrong.push(format!("{project}@{entry}:/{path} cannot be read and is not named"));
            }
        }
    }
    for problem in problems {
        let (Some(project), Some(good)) =
            (problem["project"].as_str(), problem["nearest_good"].as_str())
        else {
            continue;
        };
        if unread.contains_key(&(project.to_owned(), good.to_owned())) {
            wrong.push(format!("{project}@{good} is called good and cannot be read"));
        }
    }
    wrong
}

/// What one round has done.
struct Round {
    class: &'static str,
    files_hit: usize,
    wrong: Vec<String>,
}

fn round(history: &mut History, number: u64, chance: &mut Chance) -> Round {
    let is_cold = chance.below(4) == 0;
    if is_cold {
        history.start_with_empty_cache();
    }
    let target = target(history, number, chance);
    let harm = Harm::at_random(chance, fs::metadata(&target.place).unwrap().len());
    let harmed = Harmed::new(&target.place, harm);
    let (code, problems) = history.verify();
    let mut wrong = Vec::new();
    let unread = read_all(history, &mut wrong);
    wrong.extend(judged(code, &problems, &target, &unread));
    drop(harmed);
    let (code, problems) = history.verify();
    if code != 0 || !problems.is_empty() {
        let told: Vec<String> = problems.iter().map(Value::to_string).collect();
        wrong.push(format!("verify exits with {code} although it is back: {}", told.join(" ")));
    }
    if !unread.is_empty() && !read_all(history, &mut wrong).is_empty() {
        wrong.push("what could not be read cannot be read although it is back".to_owned());
    }
    let about = format!("{} {}, {harm:?}, cold: {is_cold}", target.class, target.key);
    let wrong = wrong.into_iter().map(|what| format!("{about}: {what}")).collect();
    Round { class: target.class, files_hit: unread.values().map(BTreeSet::len).sum(), wrong }
}

#[test]
fn damage_of_objects_is_noticed_and_named_and_never_read() {
    let Some(mut history) = History::make(66) else { return };
    history.lose_and_recover();
    let seed = seed("damage of objects at random");
    let (mut wrong, mut count, mut files_hit) = (Vec::new(), BTreeMap::new(), 0);
    for number in numbers(30, 440) {
        let round = round(&mut history, number, &mut chance_of(seed, number));
        *count.entry(round.class).or_insert(0) += 1;
        files_hit += round.files_hit;
        for what in round.wrong {
            eprintln!("FAILED COVE_SEED={seed} COVE_ROUND={number}: {what}");
            wrong.push(format!("round {number}: {what}"));
        }
    }
    figure("damage at random: rounds by class of the object", format!("{count:?}"));
    figure("damage at random: times that a file was hit, named and not read", files_hit);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let is_all = count.values().sum::<i32>() > 1;
    assert!(!is_all || files_hit > 0, "no damage hit a file");
    let all_met = ["pack", "index", "head"].iter().all(|class| count.contains_key(class));
    assert!(!is_all || all_met, "{count:?}");
}
