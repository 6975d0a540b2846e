//! What `--help` looks like.

use std::fmt::Write;

use clap::builder::{StyledStr, Styles};
use clap::{Command, CommandFactory};

use super::Cli;

/// The verbs in the order in which a person meets them.
const GROUPS: &[(&str, &[&str])] = &[
    ("Projects", &["new", "ls", "show", "path", "fork", "rename", "rm", "trash", "undelete"]),
    ("Time", &["snapshot", "timeline", "diff", "restore", "label", "pin", "unpin", "wait"]),
    ("Files", &["files", "cp"]),
    ("Volumes", &["volume"]),
    (
        "Cove itself",
        &["up", "hub", "node", "down", "doctor", "verify", "recover", "completions", "help"],
    ),
];

/// Other names of verbs, as people know them from other programs.
const ALIASES: &[(&str, &str)] = &[("ls", "list"), ("timeline", "log")];

/// The command line with its help.
pub fn command() -> Command {
    let mut command = with_aliases(|verb, alias| verb.visible_alias(alias));
    let plain = command.clone();
    command.build();
    plain.override_help(overview(&command)).mut_subcommands(with_headings)
}

/// The command line for a shell that completes: of several names of a verb it offers the alphabetically
/// first, unless the others are hidden.
pub fn to_complete() -> Command {
    with_aliases(|verb, alias| verb.alias(alias))
}

fn with_aliases(give: impl Fn(Command, &'static str) -> Command) -> Command {
    let aliases = ALIASES.iter();
    aliases.fold(Cli::command(), |command, (verb, alias)| {
        command.mut_subcommand(*verb, |verb| give(verb, alias))
    })
}

/// Draws the heading of the examples as all headings are drawn.
fn with_headings(verb: Command) -> Command {
    let header = *Styles::styled().get_header();
    let after = verb.get_after_help().map(ToString::to_string);
    let verb = match after {
        Some(text) => verb.after_help(StyledStr::from(text.replacen(
            "Examples:",
            &format!("{header}Examples:{header:#}"),
            1,
        ))),
        None => verb,
    };
    verb.mut_subcommands(with_headings)
}

/// What `cove --help` prints: the verbs by what they are about.
fn overview(command: &Command) -> StyledStr {
    let styles = Styles::styled();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let width = command.get_subcommands().map(|verb| verb.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = format!("{header}Usage:{header:#} {literal}cove{literal:#} [OPTIONS] <COMMAND>");
    let _ = writeln!(text, "{about}\n\n{usage}");
    for (title, verbs) in GROUPS {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for verb in verbs.iter().filter_map(|verb| command.find_subcommand(verb)) {
            let about = match verb.get_name() {
                "help" => "Print the help of a verb".to_owned(),
                _ => verb.get_about().map(ToString::to_string).unwrap_or_default(),
            };
            let aliases: Vec<&str> = verb.get_visible_aliases().collect();
            let aliases = match aliases.is_empty() {
                true => String::new(),
                false => format!(" [alias: {}]", aliases.join(", ")),
            };
            let name = verb.get_name();
            let _ = writeln!(
                text,
                "  {literal}{name}{literal:#}{:gap$}  {about}{aliases}",
                "",
                gap = width - name.len()
            );
        }
    }
    let options = [
        ("    --json", "Print one JSON object"),
        ("-q, --quiet", "Print names and ids only"),
        ("-h, --help", "Print help"),
        ("-V, --version", "Print the version"),
    ];
    let _ = writeln!(text, "\n{header}Options:{header:#}");
    for (option, what) in options {
        let _ = writeln!(text, "  {literal}{option:<width$}{literal:#}  {what}", width = width + 2);
    }
    let _ = writeln!(
        text,
        "\n`cove COMMAND --help` shows its options with their defaults, and examples."
    );
    StyledStr::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// Verbs that have verbs of their own, which show the examples.
    const ABOVE: [&str; 2] = ["files", "volume"];

    /// Each verb with what its help prints, those below others included.
    fn helps() -> Vec<(String, String)> {
        let mut command = command();
        command.build();
        let mut helps = Vec::new();
        for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
            let above = verb.get_name().to_owned();
            let below = verb.get_subcommands_mut().map(|below| {
                (format!("{above} {}", below.get_name()), below.render_help().to_string())
            });
            helps.extend(below.collect::<Vec<_>>());
            helps.push((verb.get_name().to_owned(), verb.render_help().to_string()));
        }
        helps.retain(|(name, _)| !name.ends_with("help"));
        helps
    }

    #[test]
    fn every_verb_stands_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).copied().collect();
        let mut command = super::command();
        command.build();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let times = grouped.iter().filter(|name| **name == verb.get_name()).count();
            assert_eq!(times, 1, "{} stands in {times} groups", verb.get_name());
        }
        for name in grouped {
            assert!(command.find_subcommand(name).is_some(), "{name} is no verb");
        }
    }

    #[test]
    fn every_verb_shows_an_example() {
        for (name, help) in helps() {
            let example = format!("cove {name}");
            let examples = help.split_once("Examples:\n").map(|(_, examples)| examples);
            let is_there = examples.is_some_and(|text| text.contains(&example));
            assert!(is_there || ABOVE.contains(&&*name), "{name} shows no example\n{help}");
        }
    }

    #[test]
    fn every_example_is_a_command_that_is_taken() {
        use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
        let mut seen = 0;
        for (name, help) in helps() {
            let examples = help.split_once("Examples:\n").map_or("", |(_, examples)| examples);
            let calls = examples.lines().flat_map(|line| line.split("cove ").skip(1));
            for call in calls {
                let words = words_of(call);
                let words = std::iter::once("cove".to_owned()).chain(words);
                let words = super::super::as_options(words.map(Into::into));
                if let Err(error) = command().try_get_matches_from(words) {
                    let is_asked = matches!(error.kind(), DisplayHelp | DisplayVersion);
                    assert!(is_asked, "{name}: cove {call}: {error}");
                }
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen} examples are read");
    }

    /// The words of one command as a shell takes them apart, with quotes and no more.
    fn words_of(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for c in line.trim().chars() {
            match (c, quote) {
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (')' | '|' | '>' | '<' | '#' | '&', None) => break,
                (' ', None) => words.push(String::new()),
                (c, _) => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn no_help_is_wider_than_a_terminal_of_80_columns() {
        let mut all = helps();
        all.push(("the overview".to_owned(), overview(&command()).to_string()));
        for (name, help) in all {
            // What clap wraps is wrapped at the terminal's width; what is ours is not.
            let ours = match help.split_once("Print names and ids only") {
                Some((_, ours)) if name != "the overview" => ours,
                _ => &help,
            };
            for line in ours.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }

    #[test]
    fn the_overview_tells_the_verbs_by_what_they_are_about() {
        expect![[r#"
            Whole workspaces that snapshot, fork and restore in milliseconds

            Usage: cove [OPTIONS] <COMMAND>

            Projects:
              new          Make a project, empty or from a directory
              ls           List the projects [alias: list]
              show         Show where a project lives, what is saved and how it is
              path         Print the directory of a project's files on this machine
              fork         Make new projects that begin where another is or was
              rename       Give a project another name
              rm           Move a project or an entry to the trash for 7 days
              trash        List the projects in the trash
              undelete     Bring back a project or an entry from the trash

            Time:
              snapshot     Keep the present state as an entry of the timeline
              timeline     List a project's entries, newest first [alias: log]
              diff         Show what differs between two moments
              restore      Go back to an entry; the state before stays in the timeline
              label        Name an entry, in place of the name it had
              pin          Keep an entry out of retention
              unpin        Leave an entry to retention again
              wait         Wait until everything captured of a project is saved

            Files:
              files        Read and change files without entering the workspace
              cp           Copy files into a project or out of it

            Volumes:
              volume       List and show volumes, also those that are no project's

            Cove itself:
              up           Start Cove on this machine
              hub          Run the Volume Hub and the projects, without a node
              node         Run a node of a Volume Hub that is another process
              down         Stop the Cove that is running
              doctor       Check this Cove and what it stands on
              verify       Check that the store holds what it must
              recover      Take over the object store and bring its projects back
              completions  Print a completion script for a shell

            Options:
                  --json     Print one JSON object
              -q, --quiet    Print names and ids only
              -h, --help     Print help
              -V, --version  Print the version

            `cove COMMAND --help` shows its options with their defaults, and examples.
        "#]]
        .assert_eq(&overview(&command()).to_string());
    }
}
