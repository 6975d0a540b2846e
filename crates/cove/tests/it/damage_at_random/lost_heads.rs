//! A head that is lost with the machine: `recover` says so, and what the packs recorded last is back as
//! another volume.

use std::fs;

use cove_testkit::proof::{figure, seed};
use serde_json::Value;

use super::harm::Harm;
use super::history::History;
use super::{chance_of, numbers};
use crate::harness::{keep_copy, list, text};

/// What is wrong with a recovery after the head of a project was harmed.
fn round(history: &mut History, slug: &str, harm: Harm, volume: &str) -> Vec<String> {
    let key = format!("teams/home/volumes/{volume}/head");
    let place = history.objects().join(&key);
    harm.to(&place);
    let harmed = fs::read(&place).ok();
    if history.cove.home.exists() {
        history.cove.lose_home();
    }
    history.cove.up();
    let output = history.cove.cove(&["recover", "--take", "--json"]);
    let mut wrong = Vec::new();
    if output.code != 8 {
        wrong.push(format!("recover exits with {}: {}", output.code, output.stderr));
    }
    let recovered: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let rebuilt = recovered["rebuilt"].as_array().cloned().unwrap_or_default();
    let [one] = rebuilt.as_slice() else {
        wrong.push(format!("{} are made anew: {recovered}", rebuilt.len()));
        return wrong;
    };
    if one["lost_volume"] != volume || one["project"] != slug || one["volume"] == volume {
        wrong.push(format!("it says {one}"));
    }
    let lost = list(&recovered["lost"]);
    if lost.len() != 1 || !text(&lost[0]["what"]).contains(volume) {
        wrong.push(format!("what is lost is {lost:?}"));
    }
    if fs::read(&place).ok() != harmed {
        wrong.push("the head that was lost was written".to_owned());
    }
    wrong.extend(history.amiss());
    let (code, problems) = history.verify();
    if code != 0 {
        wrong.push(format!("verify exits with {code}: {problems:?}"));
    }
    let again = history.cove.cove(&["recover", "--json"]);
    let again: Value = serde_json::from_str(&again.stdout).unwrap_or_default();
    if again.get("rebuilt").is_some() || list(&again["projects"]).len() != history.projects.len() {
        wrong.push(format!("again it says {again}"));
    }
    wrong
}

#[test]
fn a_head_that_is_lost_with_the_machine_is_made_anew_from_packs() {
    let Some(mut history) = History::make(66) else { return };
    let volumes: Vec<(String, String)> = history
        .projects
        .iter()
        .map(|project| (project.slug.clone(), history.volume(&project.slug)))
        .collect();
    assert!(history.cove.stop().success());
    let (objects, kept) = (history.cove.objects_dir(), history.cove.dir.path().join("kept"));
    keep_copy(&objects, &kept);
    let seed = seed("lost heads");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for number in numbers(3, 30) {
        let mut chance = chance_of(seed, number);
        let (slug, volume) = volumes[usize::try_from(number).unwrap() % volumes.len()].clone();
        let head = objects.join(format!("objects/teams/home/volumes/{volume}/head"));
        // the first few are the plain case
        let harm = match number % 2 {
            0 => Harm::Removed,
            _ => Harm::at_random(&mut chance, fs::metadata(&head).unwrap().len()),
        };
        for what in round(&mut history, &slug, harm, &volume) {
            eprintln!("FAILED COVE_SEED={seed} COVE_ROUND={number}: {slug}, {harm:?}: {what}");
            wrong.push(format!("round {number}, {slug}, {harm:?}: {what}"));
        }
        count += 1;
        history.cove.lose_home();
        fs::remove_dir_all(&objects).unwrap();
        keep_copy(&kept, &objects);
    }
    figure("lost heads made anew from packs", count);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
