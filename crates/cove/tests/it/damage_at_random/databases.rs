//! Damage of the databases in the home: Cove starts and tells no lie, or refuses with what to do; after
//! that everything saved is back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cove_testkit::proof::{Chance, figure, seed};

use super::harm::Harm;
use super::history::{History, Read};
use super::{chance_of, numbers};

/// The files of a database: itself and what SQLite keeps beside it.
fn files(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", database.display())))
}

/// How a round went.
struct Round {
    name: &'static str,
    end: &'static str,
    wrong: Vec<String>,
}

/// Moves a database away as the hint says, starts and recovers.
fn do_as_told(history: &mut History, database: &Path, wrong: &mut Vec<String>) {
    for file in files(database) {
        let _ = fs::remove_file(file);
    }
    if let Err(said) = history.cove.try_up() {
        wrong.push(format!("it does not start without the damaged file: {said}"));
        return;
    }
    recover(history, wrong);
}

fn recover(history: &History, wrong: &mut Vec<String>) {
    let recovered = history.cove.cove(&["recover", "--take", "--json"]);
    if recovered.code != 0 {
        wrong.push(format!("recover: {}{}", recovered.stdout, recovered.stderr));
    }
}

/// Reads that give something else than was saved, or say that a file is not there.
fn lies(history: &History) -> Vec<String> {
    let mut lies = Vec::new();
    for project in &history.projects {
        for (entry, files) in project.states() {
            for (path, bytes) in files {
                match history.read(&project.slug, entry, path, bytes) {
                    // that it is not here, and what brings it here, is the truth
                    Read::Wrong(what) if !what.contains("`cove recover` brings") => {
                        lies.push(format!("{}@{entry}:/{path}: {what}", project.slug));
                    }
                    _ => {}
                }
            }
        }
    }
    lies
}

fn round(history: &mut History, chance: &mut Chance) -> Round {
    let name = if chance.below(3) == 0 { "cove.db" } else { "node.db" };
    let database = history.cove.home.join("state").join(name);
    assert!(history.cove.stop().success());
    let kept: Vec<(PathBuf, Option<Vec<u8>>)> =
        files(&database).into_iter().map(|file| (file.clone(), fs::read(file).ok())).collect();
    let harm = Harm::at_random(chance, fs::metadata(&database).unwrap().len());
    harm.to(&database);
    let mut wrong = Vec::new();
    let end = match history.cove.try_up() {
        Err(said) => {
            if !(said.contains(name) || said.contains("damaged")) || !said.contains("hint: ") {
                wrong.push(format!("it refuses and does not say what to do: {said}"));
            }
            do_as_told(history, &database, &mut wrong);
            "refused"
        }
        Ok(()) => {
            let amiss = history.amiss();
            let lies = lies(history);
            let is_told = history.cove.cove(&["doctor"]).code != 0
                || history.cove.cove(&["verify"]).code != 0;
            match (amiss.is_empty(), is_told) {
                (true, _) => {
                    // what no check has met is taken out again, so that no round meets another's
                    assert!(history.cove.stop().success());
                    for (file, bytes) in kept {
                        match bytes {
                            Some(bytes) => fs::write(file, bytes).unwrap(),
                            None => drop(fs::remove_file(file)),
                        }
                    }
                    history.cove.up();
                    "started, all is there"
                }
                (false, is_told) => {
                    if !is_told {
                        wrong.push(format!("nobody says that this is amiss: {}", amiss.join("; ")));
                    }
                    wrong.extend(lies);
                    match harm {
                        Harm::Removed => recover(history, &mut wrong),
                        _ => {
                            assert!(history.cove.stop().success());
                            do_as_told(history, &database, &mut wrong);
                        }
                    }
                    "started, and said what is not"
                }
            }
        }
    };
    wrong.extend(history.amiss());
    let wrong = wrong.into_iter().map(|what| format!("{name}, {harm:?}: {what}")).collect();
    Round { name, end, wrong }
}

#[test]
fn damage_of_the_databases_loses_nothing_that_was_saved() {
    let Some(mut history) = History::make(8) else { return };
    let seed = seed("damage of databases at random");
    let (mut wrong, mut count) = (Vec::new(), BTreeMap::new());
    for number in numbers(6, 90) {
        let round = round(&mut history, &mut chance_of(seed, number));
        *count.entry(format!("{} {}", round.name, round.end)).or_insert(0) += 1;
        for what in round.wrong {
            eprintln!("FAILED COVE_SEED={seed} COVE_ROUND={number}: {what}");
            wrong.push(format!("round {number}: {what}"));
        }
    }
    figure("damage of databases at random", format!("{count:?}"));
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
