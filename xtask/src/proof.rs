//! Every test at full length, step by step, and the report of it.
//!
//! **Invariant:** the report is written after each step, so what it says has happened; a step
//! is left out only when the report says that it passed at the same commit with no file changed
//! and no test skipped. What was skipped is proven by nobody: the report does not pass with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::report::{Machine, Outcome, Report, Tests, figures, skipped};
use crate::root;

/// The suites whose tests are random: they run under further seeds too. Not the plans of a failing
/// store: at full length chance leaves none of them out.
const RANDOM: &[(&str, &[&str])] = &[
    ("random edits, stored as changes", &["-p", "cove-content", "--lib", "random_edits"]),
    ("random histories against a model", &["-p", "cove-node", "--test", "it", "model"]),
    ("a disk that errs at random", &["-p", "cove-node", "--test", "it", "disk_faults"]),
    ("random commands against a model", &["-p", "cove", "--test", "it", "model_of_commands"]),
    ("random requests", &["-p", "cove", "--test", "it", "http_bad_input::random"]),
    ("damage at random", &["-p", "cove", "--test", "it", "damage_at_random"]),
    ("restores among programs at work", &["-p", "cove", "--test", "it", "restore_under_use"]),
    ("kills at any moment", &["-p", "cove", "--test", "kill"]),
];
/// How many further seeds; each run has one of its own besides.
const FURTHER_SEEDS: u64 = 1;

/// One thing to run.
struct Step {
    name: String,
    arguments: Vec<String>,
    environment: BTreeMap<&'static str, String>,
}

impl Step {
    fn new(name: impl Into<String>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        Self { name: name.into(), arguments, environment: BTreeMap::new() }
    }

    /// What runs it again.
    fn command(&self) -> String {
        let environment = self.environment.iter().map(|(name, value)| format!("{name}={value} "));
        format!("{}cargo {}", environment.collect::<String>(), self.arguments.join(" "))
    }
}

/// Runs what has not passed yet; whether all has now.
pub fn run(again: bool) -> Result<bool> {
    let root = root();
    let place = root.join("proof");
    fs::create_dir_all(&place).with_context(|| format!("failed to make {}", place.display()))?;
    let (commit, dirty) = commit(&root)?;
    if dirty {
        eprintln!("files differ from commit {commit}: the report will say so");
    }
    let target = place.join("report.json");
    let before = if again || dirty { Vec::new() } else { passed_before(&target, &commit) };
    let mut report = Report {
        commit,
        dirty,
        date: jiff::Timestamp::now(),
        machine: Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        },
        passed: false,
        steps: Vec::new(),
    };
    let steps = steps(&packages(&root)?);
    for (number, step) in steps.iter().enumerate() {
        let known = before.iter().find(|outcome| outcome.command == step.command());
        let outcome = match known {
            Some(outcome) => {
                eprintln!("\n== {}/{} {}: passed before", number + 1, steps.len(), step.name);
                outcome.clone()
            }
            None => {
                eprintln!(
                    "\n== {}/{} {}\n   {}",
                    number + 1,
                    steps.len(),
                    step.name,
                    step.command()
                );
                carry_out(step, &root, &place)?
            }
        };
        report.steps.push(outcome);
        report.date = jiff::Timestamp::now();
        report.passed =
            report.steps.len() == steps.len() && report.steps.iter().all(Outcome::is_proof);
        write(&report, &target)?;
    }
    summarise(&report, &target);
    Ok(report.passed)
}

/// What a proof consists of.
fn steps(packages: &[String]) -> Vec<Step> {
    let mut steps = vec![
        Step::new("format", &["fmt", "--all", "--check"]),
        Step::new(
            "lints",
            &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        ),
    ];
    for package in packages {
        steps.push(Step::new(
            format!("tests of {package}"),
            &["test", "--locked", "-p", package, "--", "--nocapture"],
        ));
    }
    for seed in 1..=FURTHER_SEEDS {
        for (name, which) in RANDOM {
            let all = [&["test", "--locked"], *which, &["--", "--nocapture"]].concat();
            let mut step = Step::new(format!("{name}, seed {seed}"), &all);
            step.environment.insert("COVE_SEED", seed.to_string());
            steps.push(step);
        }
    }
    steps.push(Step::new("demo", &["run", "-q", "--locked", "-p", "cove-xtask", "--", "demo"]));
    // After the demo, which builds the release. So few turns measure nothing: they show that the
    // benchmark still drives the program.
    let mut bench = vec!["run", "-q", "--release", "--locked", "-p", "cove-bench", "--"];
    bench.extend(["--rows", "fork,create,volumes", "--files", "300"]);
    bench.extend(["--reps", "1", "--short-reps", "2"]);
    steps.push(Step::new("benchmark", &bench));
    let mut documentation = Step::new(
        "documentation",
        &["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"],
    );
    documentation.environment.insert("RUSTDOCFLAGS", "-Dwarnings".to_owned());
    steps.push(documentation);
    for step in &mut steps {
        step.environment.insert("COVE_PROOF", "1".to_owned());
    }
    steps
}

/// Runs one step, showing what it prints and keeping it in `proof/`.
fn carry_out(step: &Step, root: &Path, place: &Path) -> Result<Outcome> {
    let figures_at = place.join("figures.ndjson");
    if figures_at.exists() {
        fs::remove_file(&figures_at).context("failed to clear the figures")?;
    }
    let log_at = place.join(format!("{}.log", step.name.replace([' ', ','], "-")));
    let mut log = fs::File::create(&log_at)
        .with_context(|| format!("failed to make {}", log_at.display()))?;
    let begun = Instant::now();
    let (reader, writer) = std::io::pipe().context("failed to make a pipe")?;
    let mut command = Command::new(env!("CARGO"));
    command
        .args(&step.arguments)
        .envs(&step.environment)
        .env("COVE_PROOF_FIGURES", &figures_at)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("failed to share a pipe")?)
        .stderr(writer);
    let mut child = command.spawn().context("failed to start cargo")?;
    // it holds the pipe's other end, and its output would never end
    drop(command);
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("failed to read what a step prints")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(log, "{line}").context("failed to keep what a step prints")?;
        if !line.ends_with("... ok") {
            eprintln!("{line}");
        }
        output.push_str(&line);
        output.push('\n');
    }
    let status = child.wait().context("failed to wait for cargo")?;
    let measured = fs::read_to_string(&figures_at).unwrap_or_default();
    Ok(Outcome {
        name: step.name.clone(),
        command: step.command(),
        passed: status.success(),
        seconds: begun.elapsed().as_secs(),
        tests: Tests::of(&output),
        figures: figures(&measured),
        skipped: skipped(&output),
    })
}

fn passed_before(target: &Path, commit: &str) -> Vec<Outcome> {
    let Ok(text) = fs::read_to_string(target) else { return Vec::new() };
    let Ok(report) = serde_json::from_str::<Report>(&text) else { return Vec::new() };
    if report.commit != commit || report.dirty {
        return Vec::new();
    }
    report.steps.into_iter().filter(Outcome::is_proof).collect()
}

/// Writes the report in one step, so that an interruption leaves the one before.
fn write(report: &Report, target: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report).context("failed to write the report")?;
    let fresh = target.with_extension("json.tmp");
    fs::write(&fresh, text + "\n")
        .and_then(|()| fs::rename(&fresh, target))
        .with_context(|| format!("failed to write {}", target.display()))
}

fn summarise(report: &Report, target: &Path) {
    eprintln!();
    for Outcome { name, passed, seconds, tests, figures, skipped, .. } in &report.steps {
        let word = if *passed { "" } else { "  FAILED" };
        eprintln!("{seconds:6} s  {:4} tests  {name}{word}", tests.passed);
        figures.iter().for_each(|figure| eprintln!("{:22}{}: {}", "", figure.name, figure.value));
        skipped.iter().for_each(|line| eprintln!("{:22}{line}", ""));
    }
    let passed = report.steps.iter().filter(|step| step.passed).count();
    eprintln!("\n{passed} of {} steps passed; see {}", report.steps.len(), target.display());
    let left_out = report.steps.iter().filter(|step| !step.skipped.is_empty()).count();
    if left_out > 0 {
        eprintln!(
            "NOT A PROOF: tests of {left_out} of them were skipped, for the reasons that stand there"
        );
    }
}

/// The commit that is checked out, and whether files differ from it.
fn commit(root: &Path) -> Result<(String, bool)> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(root)
            .output()
            .context("failed to start git")?;
        if !output.status.success() {
            bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok((git(&["rev-parse", "HEAD"])?, !git(&["status", "--porcelain"])?.is_empty()))
}

/// The names of the workspace's packages.
fn packages(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("failed to start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata prints JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let mut names: Vec<String> =
        packages.iter().filter_map(|package| package["name"].as_str()).map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{RANDOM, steps};

    #[test]
    fn every_package_is_tested_at_full_length() {
        let steps = steps(&["cove".to_owned(), "cove-content".to_owned()]);
        let commands: Vec<String> = steps.iter().map(super::Step::command).collect();
        for package in ["cove", "cove-content"] {
            let command = format!("COVE_PROOF=1 cargo test --locked -p {package} -- --nocapture");
            assert!(commands.contains(&command), "{commands:#?}");
        }
        let mut sorted = commands.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), commands.len(), "a step is known by its command");
    }
    /// The files below a directory that take a seed, with their texts.
    fn seeded(dir: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                seeded(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                if text.contains("seed(\"") || text.contains("seed(test)") {
                    found.push((path.display().to_string(), text));
                }
            }
        }
    }

    #[test]
    fn every_suite_that_takes_a_seed_runs_under_further_ones() {
        let mut found = Vec::new();
        seeded(&crate::root().join("crates"), &mut found);
        found.retain(|(place, _)| !place.contains("/s3_faults"));
        assert!(found.len() > 8, "{}", found.len());
        for (place, text) in found {
            let is_in = |which: &[&str]| {
                let name = which.last().unwrap().replace("::", "/");
                place.contains(&format!("/{name}")) || text.contains(&name)
            };
            assert!(RANDOM.iter().any(|(_, which)| is_in(which)), "{place}");
        }
    }
}
