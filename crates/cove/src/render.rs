//! Results as text for a person.
//!
//! All of it is a function of the wire's values and of a moment, so that a test shows
//! what a person sees. What others named is escaped already where it crosses the API;
//! messages and labels of people are escaped here.

use std::io::IsTerminal;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use cove_types::wire::{
    Change, ChangeKind, Check, Entry, File, Match, Problem, Project, Rebuilt, VerifyReply, Volume,
};
use cove_types::{Durability, EntryState};
use jiff::Timestamp;

use crate::failure::printable;

/// A size with a unit of powers of 1,000 and two or three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    if value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A duration in milliseconds.
pub fn duration(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// How long ago a time of the wire was; the text itself when it is no time.
pub fn age(time: &str, now: Timestamp) -> String {
    let Ok(then) = time.parse::<Timestamp>() else { return printable(time) };
    let seconds = now.as_second().saturating_sub(then.as_second());
    let counted = |count: i64, one: &str, many: &str| match count {
        1 => format!("1 {one} ago"),
        _ => format!("{count} {many} ago"),
    };
    match seconds {
        ..-60 => time.get(..10).unwrap_or(time).to_owned(),
        -60..=0 => "just now".to_owned(),
        1..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..2_592_000 => counted(seconds / 86_400, "day", "days"),
        _ => time.get(..10).unwrap_or(time).to_owned(),
    }
}

/// A count with its noun.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Where a state is saved, after "saved".
pub fn place(saved_to: &str) -> String {
    match saved_to {
        "this_disk" => "on this disk only".to_owned(),
        url => format!("to {}", printable(url)),
    }
}

/// A word of the API as a person writes it: `at_risk` is at risk.
fn in_words(word: &str) -> String {
    printable(word).replace('_', " ")
}

/// A chain of causes without those that only name what the store was asked for when it did not answer:
/// that is another object at each attempt, of which the log tells.
pub fn in_short(what: &str) -> String {
    let is_asked = |part: &&str| {
        let asked = ["the store did not say whether object ", "failed to read object "];
        asked.iter().any(|words| part.starts_with(words))
    };
    let parts: Vec<&str> = what.split(": ").collect();
    match parts.iter().rposition(is_asked) {
        Some(at) if (1..parts.len() - 1).contains(&at) => {
            [&parts[..1], &parts[at + 1..]].concat().join(": ")
        }
        _ => what.to_owned(),
    }
}

/// Whether a project that a verb made or changed is saved, and where.
pub fn state(project: &Project) -> String {
    match project.durability {
        Durability::Saved => format!("saved {}", place(&project.saved_to)),
        Durability::OnThisNode => {
            format!("on this node, not saved yet (`cove wait {}` waits)", project.slug)
        }
    }
}

/// Lines of aligned columns without borders; `right` are columns of numbers.
fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if right.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Whether the present state of a project is saved, in short.
fn saved(project: &Project, now: Timestamp) -> String {
    let saved_at = project.saved_at.as_deref();
    saved_in_short(project.durability, saved_at, project.unsaved_bytes, now)
}

fn saved_in_short(
    durability: Durability,
    saved_at: Option<&str>,
    unsaved_bytes: Option<u64>,
    now: Timestamp,
) -> String {
    match (durability, saved_at, unsaved_bytes) {
        (Durability::Saved, Some(at), _) => age(at, now),
        (Durability::Saved, None, _) => "yes".to_owned(),
        (Durability::OnThisNode, _, Some(bytes)) => format!("{} not yet", size(bytes)),
        (Durability::OnThisNode, _, None) => "not yet".to_owned(),
    }
}

/// The list of projects.
pub fn projects(projects: &[Project], now: Timestamp) -> String {
    let row = |project: &Project| {
        vec![
            project.slug.clone(),
            saved(project, now),
            size(project.bytes.logical),
            project.entries.to_string(),
            in_words(&project.health.state),
            age(&project.created_at, now),
        ]
    };
    let header = ["NAME", "SAVED", "SIZE", "ENTRIES", "HEALTH", "MADE"];
    table(&header, projects.iter().map(row).collect(), &[2, 3])
}

/// The projects in the trash.
pub fn trash(projects: &[Project], now: Timestamp) -> String {
    let row = |project: &Project| {
        let when = project.trashed_at.as_deref().map(|at| age(at, now)).unwrap_or_default();
        vec![project.slug.clone(), when, size(project.bytes.logical), project.entries.to_string()]
    };
    table(&["NAME", "REMOVED", "SIZE", "ENTRIES"], projects.iter().map(row).collect(), &[2, 3])
}

/// Whether a present state is saved, and where.
fn saved_where(
    durability: Durability,
    saved_at: Option<&str>,
    saved_to: &str,
    unsaved_bytes: Option<u64>,
    now: Timestamp,
) -> String {
    match (durability, saved_at) {
        (Durability::Saved, Some(at)) => format!("{}, {}", age(at, now), place(saved_to)),
        (Durability::Saved, None) => place(saved_to),
        (Durability::OnThisNode, at) => {
            let changed = match unsaved_bytes {
                Some(bytes) => format!("{} changed and not saved yet", size(bytes)),
                None => "not saved yet".to_owned(),
            };
            match at {
                Some(at) => format!("{changed}; before that {}, {}", age(at, now), place(saved_to)),
                None => format!("{changed}; will be {}", place(saved_to)),
            }
        }
    }
}

/// One project: where it lives, what is saved, how it is.
pub fn project(project: &Project, now: Timestamp) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if project.state != "live" {
        let since = project.trashed_at.as_deref().map(|at| age(at, now)).unwrap_or_default();
        rows.push(("state", format!("in the trash, {since}")));
    }
    rows.push((
        "files",
        project.path.as_deref().map_or("no copy on this machine".to_owned(), printable),
    ));
    let (at, to) = (project.saved_at.as_deref(), &*project.saved_to);
    rows.push(("saved", saved_where(project.durability, at, to, project.unsaved_bytes, now)));
    let bytes = &project.bytes;
    rows.push((
        "size",
        format!(
            "{}; on disk {} its own, {} shared or saved by compression",
            size(bytes.logical),
            size(bytes.unique),
            size(bytes.shared)
        ),
    ));
    if let Some(quota) = project.quota_bytes {
        rows.push(("quota", format!("{} of {} written", size(bytes.unique), size(quota))));
    }
    rows.push(("timeline", count(project.entries.into(), "entry", "entries")));
    if let Some(from) = &project.forked_from {
        let entry = from.entry.as_deref().map(|entry| format!(" at {entry}")).unwrap_or_default();
        rows.push(("forked from", printable(&format!("{}{entry}", from.project))));
    }
    rows.push(("made", age(&project.created_at, now)));
    rows.push(("id", printable(&format!("{}, {}", project.id, project.volume))));
    let health = &project.health;
    let verified = health.last_verify.as_ref().map(|last| {
        let found = match last.problems {
            0 => "no problems".to_owned(),
            number => count(number, "problem", "problems"),
        };
        format!("; verified {}: {found}", age(&last.at, now))
    });
    let verified = verified.unwrap_or_default();
    rows.push(("health", format!("{}{verified}", in_words(&health.state))));
    let mut text = format!("{}\n", printable(&project.name));
    for (name, value) in rows {
        text.push_str(&format!("  {name:<11}  {value}\n"));
    }
    text.push_str(&problems(&health.problems, now));
    if health.not_captured_count > 0 {
        let paths = count(health.not_captured_count, "path", "paths");
        text.push_str(&format!("  not captured {paths}\n"));
        for lost in &health.not_captured {
            text.push_str(&format!("    {}: {}\n", printable(&lost.path), printable(&lost.what)));
        }
        let more = health.not_captured_count.saturating_sub(health.not_captured.len() as u64);
        if more > 0 {
            text.push_str(&format!("    and {more} more\n"));
        }
    }
    text
}

/// The list of volumes.
pub fn volumes(volumes: &[Volume], now: Timestamp) -> String {
    let row = |volume: &Volume| {
        vec![
            volume.id.clone(),
            printable(&volume.name),
            volume.project.as_deref().map_or("-".to_owned(), printable),
            volume_saved(volume, now),
            size(volume.bytes.logical),
            volume.quota_bytes.map_or("-".to_owned(), size),
            volume.snapshots.to_string(),
            in_words(&volume.health.state),
        ]
    };
    let header = ["VOLUME", "NAME", "PROJECT", "SAVED", "SIZE", "QUOTA", "SNAPSHOTS", "HEALTH"];
    table(&header, volumes.iter().map(row).collect(), &[4, 5, 6])
}

/// Whether the present state of a volume is saved, in short; where it is is told when that is no store elsewhere.
fn volume_saved(volume: &Volume, now: Timestamp) -> String {
    let at = volume.saved_at.as_deref();
    let saved = saved_in_short(volume.durability, at, volume.unsaved_bytes, now);
    match (volume.durability, volume.saved_to.as_str()) {
        (Durability::Saved, "this_disk") => format!("{saved}, {}", place("this_disk")),
        _ => saved,
    }
}

/// One volume: whose it is, where, what is saved, how it is.
pub fn volume(volume: &Volume, now: Timestamp) -> String {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let bytes = &volume.bytes;
    let whose = match &volume.project {
        Some(project) => format!("workspace of {project}"),
        None => format!("no project's; `cove new NAME --volume {}` makes one of it", volume.id),
    };
    let at = volume.saved_at.as_deref();
    let saved = match &*volume.saved_to {
        "" => volume_saved(volume, now),
        to => saved_where(volume.durability, at, to, volume.unsaved_bytes, now),
    };
    let mut rows = vec![
        ("name", volume.name.clone()),
        ("project", whose),
        ("node", volume.node.clone()),
        ("files", volume.path.clone().unwrap_or_else(|| "no copy on this machine".to_owned())),
        ("saved", saved),
        (
            "size",
            format!(
                "{}; on disk {} its own, {} shared or saved by compression",
                size(bytes.logical),
                size(bytes.unique),
                size(bytes.shared)
            ),
        ),
    ];
    if let Some(quota) = volume.quota_bytes {
        rows.push(("quota", format!("{} of {} written", size(bytes.unique), size(quota))));
    }
    rows.push(("snapshots", volume.snapshots.to_string()));
    if let Some(source) = &volume.source {
        rows.push(("began as", source.clone()));
    }
    for (name, map) in [("labels", &volume.labels), ("parameters", &volume.parameters)] {
        if !map.is_empty() {
            rows.push((name, pairs(map)));
        }
    }
    rows.push(("made", age(&volume.created_at, now)));
    rows.push(("health", in_words(&volume.health.state)));
    let mut text = format!("{}\n", printable(&volume.id));
    for (name, value) in rows {
        text.push_str(&format!("  {name:<11}  {}\n", printable(&value)));
    }
    text.push_str(&problems(&volume.health.problems, now));
    text
}

/// What is wrong, with what to do.
fn problems(problems: &[Problem], now: Timestamp) -> String {
    let mut text = String::new();
    for problem in problems {
        let since = age(&problem.since, now);
        let what = printable(&in_short(&problem.what));
        text.push_str(&format!("    {what} (since {since})\n"));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("      hint: {}\n", printable(hint)));
        }
    }
    text
}

/// How many columns the terminal on standard output has; nothing where it is none.
pub fn terminal_width() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| Table::new().width()).flatten().map(usize::from)
}

/// How many columns a text takes at most: what is not ASCII may take two.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// The beginning of a text that fits into columns, with `…` for what does not.
fn fitted(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        // The ellipsis takes one or two, too.
        if columns(&kept) + columns(c.encode_utf8(&mut [0; 4])) + 2 > width {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

/// A timeline. A column that says nothing of any entry is left out; messages are cut where a
/// `width` is given, so that an entry is one line.
pub fn timeline(entries: &[Entry], now: Timestamp, width: Option<usize>) -> String {
    const ALWAYS: usize = 5;
    const MESSAGE: usize = 8;
    /// Less than this of a message says nothing.
    const MESSAGE_MIN: usize = 16;
    let row = |entry: &Entry| {
        let saved = match entry.durability {
            Durability::Saved => "yes",
            Durability::OnThisNode => "not yet",
        };
        let state = match entry.state {
            EntryState::Trashed => "in the trash",
            EntryState::Live => "",
        };
        vec![
            entry.id.clone(),
            age(&entry.time, now),
            entry.kind.as_str().to_owned(),
            saved.to_owned(),
            entry.logical_bytes.map(size).unwrap_or_default(),
            entry.label.as_deref().map(printable).unwrap_or_default(),
            if entry.pinned { "yes".to_owned() } else { String::new() },
            state.to_owned(),
            entry.message.as_deref().map(printable).unwrap_or_default(),
        ]
    };
    let header = ["ENTRY", "WHEN", "KIND", "SAVED", "SIZE", "LABEL", "PINNED", "STATE", "MESSAGE"];
    let mut rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    let shown: Vec<usize> = (0..header.len())
        .filter(|column| *column < ALWAYS || rows.iter().any(|row| !row[*column].is_empty()))
        .collect();
    if let Some(width) = width {
        let widest = |column: &usize| {
            let cells = rows.iter().map(|row| columns(&row[*column]));
            cells.chain([header[*column].len()]).max().unwrap_or(0) + 2
        };
        let before: usize = shown.iter().filter(|column| **column != MESSAGE).map(widest).sum();
        let left = width.saturating_sub(before).max(MESSAGE_MIN);
        for row in &mut rows {
            row[MESSAGE] = fitted(&row[MESSAGE], left);
        }
    }
    let pick = |row: &Vec<String>| shown.iter().map(|column| row[*column].clone()).collect();
    let header: Vec<&str> = shown.iter().map(|column| header[*column]).collect();
    table(&header, rows.iter().map(pick).collect(), &[4])
}

/// Projects, and volumes that are no project's, by their number.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Projects.
    pub projects: u64,
    /// Volumes that are none's.
    pub volumes: u64,
}

impl Number {
    fn words(self) -> String {
        let volumes = count(self.volumes, "volume", "volumes");
        match (self.projects, self.volumes) {
            (projects, 0) => count(projects, "project", "projects"),
            (0, _) => volumes,
            (projects, _) => format!("{} and {volumes}", count(projects, "project", "projects")),
        }
    }

    fn sum(self) -> u64 {
        self.projects + self.volumes
    }
}

/// What a recovery brought back, and what it left alone because it was here.
pub fn recovered(back: Number, here: Number) -> String {
    let are = if here.sum() == 1 { "is" } else { "are" };
    // where only projects are told, the second number needs no noun
    let already = match back.volumes + here.volumes {
        0 => here.projects.to_string(),
        _ => here.words(),
    };
    match (back.sum(), here.sum()) {
        (0, 0) => "nothing to recover: the store names no project".to_owned(),
        (0, _) => format!("nothing to recover: {} {are} here already", here.words()),
        (_, 0) => format!("{} recovered", back.words()),
        (_, _) => format!("{} recovered, {already} {are} here already", back.words()),
    }
}

/// A project whose head was lost and that a recovery brought back.
pub fn rebuilt(rebuilt: &Rebuilt, now: Timestamp) -> String {
    let Rebuilt { project, volume, lost_volume, recorded_at } = rebuilt;
    let recorded = age(recorded_at, now);
    if volume == lost_volume {
        return format!(
            "project {project}: its head was lost, and was put again as it was saved {recorded}"
        );
    }
    format!(
        "project {project} was made from the packs of volume {lost_volume}, recorded {recorded}"
    )
}

/// What became of an entry: how soon it was captured, and saved where.
pub fn entry(entry: &Entry, saved_to: &str) -> String {
    let took = duration(entry.captured_ms);
    let captured = format!("entry {}: captured on this node in {took}", printable(&entry.id));
    match (entry.durability, entry.saved_ms) {
        (Durability::Saved, Some(ms)) => {
            format!("{captured}, saved {} in {}", place(saved_to), duration(ms))
        }
        (Durability::Saved, None) => format!("{captured}, saved {}", place(saved_to)),
        (Durability::OnThisNode, _) => format!("{captured}, not saved yet"),
    }
}

/// The beginning of a message, where a line says more than it.
fn cut(message: &str) -> String {
    const SHOWN: usize = 30;
    match message.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", printable(message[..end].trim_end())),
        None => printable(message),
    }
}

/// What retention moved to the trash.
pub fn rolled_off(project: &str, entries: &[Entry]) -> Vec<String> {
    let line = |entry: &Entry| {
        let name = entry.label.as_deref().or(entry.message.as_deref());
        let name = name.map(|name| format!(" ({})", cut(name))).unwrap_or_default();
        let id = &entry.id;
        format!("rolled off: {id}{name}; back with `cove undelete {project}@{id}`")
    };
    entries.iter().map(line).collect()
}

fn letter(change: ChangeKind) -> char {
    match change {
        ChangeKind::Added => 'A',
        ChangeKind::Removed => 'D',
        ChangeKind::Modified => 'M',
        ChangeKind::Renamed => 'R',
        ChangeKind::Metadata => 'm',
    }
}

/// The path of a change, with where it came from.
fn moved(change: &Change) -> String {
    match &change.from {
        Some(from) => format!("{} -> {}", printable(from), printable(&change.path)),
        None => printable(&change.path),
    }
}

/// A difference: a letter and a path a line.
pub fn changes(changes: &[Change]) -> String {
    let line = |change: &Change| {
        let modes = match (&change.mode_before, &change.mode_after) {
            (Some(before), Some(after)) => format!("  (mode {before} -> {after})"),
            _ if change.change == ChangeKind::Metadata => "  (attributes)".to_owned(),
            _ => String::new(),
        };
        format!("{} {}{}\n", letter(change.change), moved(change), printable(&modes))
    };
    changes.iter().map(line).collect()
}

/// A difference for scripts: letter, tab, path; a renamed one has both paths.
pub fn name_status(changes: &[Change]) -> String {
    let line = |change: &Change| match &change.from {
        Some(from) => {
            format!("{}\t{}\t{}\n", letter(change.change), printable(from), printable(&change.path))
        }
        None => format!("{}\t{}\n", letter(change.change), printable(&change.path)),
    };
    changes.iter().map(line).collect()
}

/// A difference with sizes and a sum.
pub fn stat(changes: &[Change]) -> String {
    let row = |change: &Change| {
        let sizes = match (change.bytes_before, change.bytes_after) {
            (Some(before), Some(after)) if before != after => {
                format!("{} -> {}", size(before), size(after))
            }
            (_, Some(after)) => size(after),
            (Some(before), None) => size(before),
            (None, None) => String::new(),
        };
        vec![letter(change.change).to_string(), moved(change), sizes]
    };
    let mut text = table(&[], changes.iter().map(row).collect(), &[2]);
    let of = |kind| changes.iter().filter(|change| change.change == kind).count();
    let sums = [
        (of(ChangeKind::Added), "added"),
        (of(ChangeKind::Removed), "removed"),
        (of(ChangeKind::Modified), "modified"),
        (of(ChangeKind::Renamed), "renamed"),
        (of(ChangeKind::Metadata), "with other mode or attributes"),
    ];
    let sums: Vec<String> = sums
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    text.push_str(&format!("{}\n", sums.join(", ")));
    text
}

/// A listing of files.
pub fn files(files: &[File], now: Timestamp) -> String {
    let row = |file: &File| {
        let path = printable(&file.path);
        let name = match (&file.target, file.kind.as_str()) {
            (Some(target), _) => format!("{path} -> {}", printable(target)),
            (None, "directory") => format!("{path}/"),
            _ => path,
        };
        let bytes = if file.kind == "file" { size(file.bytes) } else { String::new() };
        vec![printable(&file.kind), file.mode.clone(), bytes, age(&file.modified, now), name]
    };
    table(&[], files.iter().map(row).collect(), &[2])
}

/// Lines that matched.
pub fn matches(matches: &[Match]) -> String {
    let line = |found: &Match| {
        format!("{}:{}:{}\n", printable(&found.path), found.line, printable(&found.text))
    };
    matches.iter().map(line).collect()
}

/// A fault and its causes, where several causes say only again that something is damaged: what said so
/// first names the object.
fn told_once(what: &str) -> String {
    let mut is_told = false;
    let parts = what.split(": ").filter(|part| {
        let says_so = part.ends_with(" is damaged");
        let is_again = says_so && is_told;
        is_told |= says_so;
        !is_again
    });
    parts.collect::<Vec<_>>().join(": ")
}

/// What a check of a level did not look at, and what would.
pub fn not_verified(level: u8) -> Option<&'static str> {
    match level {
        0 => Some("only heads were compared; `--level 2` looks for each chunk and reads the packs"),
        1 => Some("packs were not read; `--level 2` reads them"),
        _ => None,
    }
}

/// What `verify` found at a level.
pub fn verify(reply: &VerifyReply, level: u8) -> String {
    let mut text = String::new();
    for problem in &reply.problems {
        let subject = problem.project.as_deref().or(problem.volume.as_deref());
        let subject = subject.unwrap_or("the store");
        let entry = problem.entry.as_deref().map(|entry| format!("@{entry}")).unwrap_or_default();
        let what = printable(&told_once(&problem.what));
        text.push_str(&format!("{}{entry}: {what}\n", printable(subject)));
        for path in &problem.paths {
            text.push_str(&format!("    {}\n", printable(path)));
        }
        if let Some(good) = &problem.nearest_good {
            text.push_str(&format!("    the nearest entry that is whole is {}\n", printable(good)));
        } else if level > 0 && (problem.entry.is_some() || !problem.paths.is_empty()) {
            text.push_str("    no entry of it is whole\n");
        }
    }
    for lost in &reply.not_captured {
        let (path, what) = (printable(&lost.path), printable(&lost.what));
        text.push_str(&format!("not captured: {path}: {what}\n"));
    }
    let checked = &reply.checked;
    let mut words = vec![count(checked.projects, "project", "projects")];
    if checked.volumes > 0 {
        words.push(format!("{} of no project", count(checked.volumes, "volume", "volumes")));
    }
    // The present states are checked as the entries are.
    words.push(count(checked.entries, "state", "states"));
    if level > 0 {
        words.push(count(checked.chunks, "chunk", "chunks"));
    }
    if checked.packs_read > 0 {
        let packs = count(checked.packs_read, "pack", "packs");
        words.push(format!("{packs} read ({})", size(checked.bytes_read)));
    }
    let problems = match reply.problems.len() {
        0 => "no problems".to_owned(),
        number => count(number as u64, "problem", "problems"),
    };
    text.push_str(&format!("checked {}: {problems}\n", words.join(", ")));
    text
}

/// What `doctor` found.
pub fn checks(checks: &[Check]) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let state = if check.ok { "ok  " } else { "FAIL" };
        let (name, what) = (printable(&check.name), printable(&check.what));
        text.push_str(&format!("{state}  {name:<width$}  {what}\n"));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("      hint: {}\n", printable(hint)));
        }
    }
    text
}

#[cfg(test)]
mod tests;
