//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cove_workspace::FORKS_MAX;

/// Whole workspaces that snapshot, fork and restore in milliseconds.
#[derive(Debug, Parser)]
#[command(name = "cove", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// How to say what was done.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputFlags {
    /// Print one JSON object
    #[arg(long, global = true, conflicts_with = "quiet", help_heading = "Output")]
    pub json: bool,
    /// Print names and ids only
    #[arg(long, short, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// Whether to wait until the result is saved.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct WaitFlags {
    /// Return when it is on this node, not yet saved
    #[arg(long)]
    pub no_wait: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start Cove on this machine
    Up(UpFlags),
    /// Stop the Cove that is running
    Down,
    /// Make a project, empty or from a directory
    New {
        /// Its name: 1 to 40 of a-z, 0-9 and single inner -
        name: String,
        /// Copy this directory into it, dependencies and all
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// List the projects
    #[command(visible_alias = "list")]
    Ls,
    /// Show where a project lives, what is saved and how it is
    Show {
        /// The project
        name: String,
    },
    /// Print the directory of a project's files on this machine
    Path {
        /// The project
        name: String,
    },
    /// Read and change files without entering the workspace
    #[command(subcommand)]
    Files(FilesVerb),
    /// Copy files into a project or out of it
    #[command(
        after_help = "As docker cp does: a directory is copied into a directory that is there, or\n\
        made under the new name; with /. at its end only what is in it is copied.\n\
        The directory above the target must be there. NAME@x:/path reads an entry.\n\
        A source - is a tar stream on standard input, extracted in the directory\n\
        NAME:/path; a target - writes a tar stream to standard output.\n\
        Modes, times, links and attributes are kept; owners are not."
    )]
    Cp {
        /// Where SOURCE is a link, copy what it points to
        #[arg(long, short = 'L')]
        follow_link: bool,
        /// Asks for owners, which a project does not keep
        #[arg(long, short, hide = true)]
        archive: bool,
        /// What to copy: a local path, NAME:/path, or -
        source: OsString,
        /// Where to: NAME:/path, a local path, or -
        target: OsString,
    },
    /// Keep the present state as an entry of the timeline
    Snapshot {
        /// The project
        name: String,
        /// What it is
        #[arg(long, short, value_name = "TEXT")]
        message: Option<String>,
        /// Its name, for NAME@LABEL
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// List a project's entries, newest first
    #[command(visible_alias = "log")]
    Timeline {
        /// The project
        name: String,
        /// Also those that rolled off and lie in the trash
        #[arg(long)]
        all: bool,
    },
    /// Show what differs between two moments
    #[command(
        after_help = "NAME@x is a project at now, an entry id or its first 3 characters or\n\
        more, a label, or ~n, the n-th newest entry that somebody asked for."
    )]
    Diff {
        /// A..B, or A B; A alone is compared with the present state
        #[arg(required = true, num_args = 1..=2, value_name = "NAME@x")]
        moments: Vec<String>,
        /// Sizes, and a sum
        #[arg(long, conflicts_with = "name_status")]
        stat: bool,
        /// One letter and the path, separated by a tab
        #[arg(long)]
        name_status: bool,
        /// Not supported
        #[arg(last = true, value_name = "PATH", hide = true)]
        paths: Vec<OsString>,
    },
    /// Make new projects that begin where another is or was
    Fork {
        /// The source: NAME or NAME@x
        source: String,
        /// The new name; without it NAME-1 or the next free number
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// How many; with --as x they are x-1, x-2, …
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(FORKS_MAX)))]
        count: Option<u32>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Go back to an entry; the state before stays in the timeline
    Restore {
        /// The project
        name: String,
        /// An entry id or its first characters, a label, or ~n
        entry: String,
        /// Go on although programs have files open for writing
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitFlags,
        /// Only these paths, exactly
        #[arg(last = true, value_name = "PATH")]
        paths: Vec<OsString>,
    },
    /// Keep an entry out of retention
    Pin {
        /// The entry: NAME@x
        entry: String,
    },
    /// Leave an entry to retention again
    Unpin {
        /// The entry: NAME@x
        entry: String,
    },
    /// Name an entry, in place of the name it had
    Label {
        /// The entry: NAME@x
        entry: String,
        /// The name: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'
        label: Option<String>,
        /// Take its name away
        #[arg(long, conflicts_with = "label")]
        remove: bool,
    },
    /// Give a project another name
    Rename {
        /// The project
        name: String,
        /// The new name
        to: String,
    },
    /// Move a project or an entry to the trash, from where it comes back for 7 days
    Rm {
        /// NAME, or NAME@x for an entry
        name: String,
    },
    /// List the projects in the trash
    Trash,
    /// Bring back a project, or an entry that rolled off
    Undelete {
        /// NAME, or NAME@x for an entry
        name: String,
    },
    /// Wait until everything captured of a project is saved
    Wait {
        /// The project
        name: String,
    },
    /// Take over the object store and bring its projects back
    Recover {
        /// Also from a Cove that gave a sign of life within the last 60 s
        #[arg(long)]
        take: bool,
    },
    /// Check what is stored
    Verify {
        /// The project; all of them without it
        name: Option<String>,
        /// 0: heads; 1: every chunk is located; 2: packs are read
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
        level: Option<u8>,
        /// At level 2, read the k-th of n parts only
        #[arg(long, value_name = "K/N", value_parser = parse_part)]
        read: Option<(u32, u32)>,
    },
    /// Check this Cove and what it stands on
    Doctor,
    /// Print a completion script
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The verbs of `files`.
#[derive(Debug, Subcommand)]
pub enum FilesVerb {
    /// List a directory
    Ls {
        /// NAME:/path or NAME@x:/path
        place: OsString,
        /// Everything below it
        #[arg(long, short = 'R')]
        recursive: bool,
        /// As it always is: with kind, mode, size and age
        #[arg(short)]
        long: bool,
        /// As it always is: with names that begin with a dot
        #[arg(short)]
        all: bool,
    },
    /// Print a file
    #[command(
        after_help = "With --json it prints {\"content\": {\"path\", \"bytes\", \"encoding\", \"data\"}}; the\n\
        encoding is utf-8, or base64 where the file is no text. Up to 64 MiB."
    )]
    Cat {
        /// NAME:/path or NAME@x:/path
        place: OsString,
    },
    /// Replace a file by standard input
    Put {
        /// NAME:/path
        place: OsString,
    },
    /// Remove a file or directory
    Rm {
        /// NAME:/path
        place: OsString,
        /// With everything below
        #[arg(long, short)]
        recursive: bool,
        /// Say nothing where nothing is there
        #[arg(long, short)]
        force: bool,
    },
    /// Move a file or directory
    Mv {
        /// NAME:/path
        source: OsString,
        /// NAME:/path of the same project, or /path
        target: OsString,
    },
    /// Make a directory and those above it
    Mkdir {
        /// NAME:/path
        place: OsString,
        /// As it always is: one that is there is well
        #[arg(long, short)]
        parents: bool,
    },
    /// Show one file
    Stat {
        /// NAME:/path or NAME@x:/path
        place: OsString,
    },
    /// Find files by name
    #[command(
        after_help = "A pattern is a glob of *, ? and [...] over the whole name, or without any of\n\
        them a part of it. One with a / is compared with the whole path.\n\
        -name and -type are read as find(1) reads them."
    )]
    Find {
        /// NAME:/path or NAME@x:/path
        place: OsString,
        /// A pattern for the file's name
        #[arg(value_name = "PATTERN")]
        pattern: Option<String>,
        /// The same, as find(1) has it
        #[arg(long, value_name = "PATTERN", conflicts_with = "pattern")]
        name: Option<String>,
        /// Only what is a file, a directory or a symbolic link
        #[arg(long = "type", value_name = "KIND")]
        kind: Option<Kind>,
    },
    /// Find lines by a text, in everything below a path
    #[command(
        after_help = "Files with NUL bytes and those over 16 MiB are not searched, and counted.\n\
        It exits with 0 also when no line matches: 1 stands for a mistake in Cove."
    )]
    Grep(GrepFlags),
}

/// What `files grep` looks for.
#[derive(Debug, Args)]
pub struct GrepFlags {
    /// The text, byte for byte; with -E a regular expression
    pub pattern: String,
    /// NAME:/path or NAME@x:/path
    pub place: OsString,
    /// Upper and lower case are the same
    #[arg(long, short)]
    pub ignore_case: bool,
    /// Print the paths of files that match, and no lines
    #[arg(long, short = 'l')]
    pub files_with_matches: bool,
    /// PATTERN is a regular expression
    #[arg(long, short = 'E')]
    pub extended_regexp: bool,
    /// PATTERN is a text, as it is without -E
    #[arg(long, short = 'F', conflicts_with = "extended_regexp")]
    pub fixed_strings: bool,
    /// As it always is: with the numbers of lines
    #[arg(long, short = 'n')]
    pub line_number: bool,
    /// As it always is: with everything below
    #[arg(long, short)]
    pub recursive: bool,
}

/// What `files find` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Files
    #[value(name = "f", alias = "file")]
    File,
    /// Directories
    #[value(name = "d", alias = "directory")]
    Directory,
    /// Symbolic links
    #[value(name = "l", alias = "symlink")]
    Symlink,
}

impl Kind {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
        }
    }
}

/// The words of a command line, with `-name` and `-type` behind `files find` as options:
/// elsewhere a single dash stands before single letters.
pub fn as_options(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let verbs: Vec<usize> = (1..words.len())
        .filter(|at| !words[*at].as_encoded_bytes().starts_with(b"-"))
        .take(2)
        .collect();
    let [files, find] = verbs[..] else { return words };
    if words[files] != "files" || words[find] != "find" {
        return words;
    }
    for word in &mut words[find + 1..] {
        if word == "-name" || word == "-type" {
            let mut option = OsString::from("-");
            option.push(&*word);
            *word = option;
        }
    }
    words
}

/// A shell that completes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// The flags of `up`, as written.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The objects are at file:///DIR, or at s3://BUCKET/PREFIX with the variables\n\
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL.\n\
    COVE_HOME, COVE_LISTEN, COVE_POOL_BYTES, COVE_POOL and COVE_OBJECTS say\n\
    the same as the flags. The bucket must be there."
)]
pub struct UpFlags {
    /// Return when it serves, and log to HOME/cove.log
    #[arg(long)]
    pub detach: bool,
    /// Where everything lies [~/.local/share/cove]
    #[arg(long, env = "COVE_HOME", hide_env = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Where the API listens
    #[arg(
        long,
        env = "COVE_LISTEN",
        hide_env = true,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:7070"
    )]
    pub listen: SocketAddr,
    /// The first size [1/4 of what is free, min. 4 GiB]
    #[arg(long, env = "COVE_POOL_BYTES", hide_env = true, value_name = "N", value_parser = parse_bytes)]
    pub pool_bytes: Option<u64>,
    /// A directory on btrfs instead of a loop file
    #[arg(long, env = "COVE_POOL", hide_env = true, value_name = "DIR_ON_BTRFS")]
    pub pool: Option<PathBuf>,
    /// The object store [file://HOME/objects]
    #[arg(long, env = "COVE_OBJECTS", hide_env = true, value_name = "URL")]
    pub objects: Option<String>,
    /// How often changes are saved
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub store_every: Duration,
    /// How long an S3 store may be silent
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub store_timeout: Duration,
}

/// What `up` is to do, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpArgs {
    /// Where everything lies.
    pub home: PathBuf,
    /// Where the API listens besides its unix socket.
    pub listen: SocketAddr,
    /// The size of the pool to begin with; chosen by the free space when absent.
    pub pool_bytes: Option<u64>,
    /// A directory on btrfs to use as the pool.
    pub pool: Option<PathBuf>,
    /// The URL of the object store; `file://<home>/objects` when absent.
    pub objects: Option<String>,
    /// How often changed projects are stored by themselves.
    pub store_every: Duration,
    /// The longest silence of an S3 store, after which it does not answer.
    pub store_timeout: Duration,
    /// Whether to return when it serves.
    pub detach: bool,
    /// How many counted entries stay in a project, 1 to 200.
    pub keep: u32,
}

/// Reads `4096`, `4k`, `4KiB`, `2G`, `2GiB`; all units are powers of 1024.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("a size is a number of bytes, or one with KiB, MiB, GiB or TiB".into()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "a size is a whole number of bytes below 16 EiB".into())
}

/// Reads `30s`, `500ms`, `5min`, `1h`; a bare number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a duration is a number with ms, s, min or h".into()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    match ms {
        Some(ms) if (100..=86_400_000).contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err("a duration is 100 ms to 24 h".into()),
    }
}

/// Reads `k/n` with 1 ≤ k ≤ n.
fn parse_part(text: &str) -> Result<(u32, u32), String> {
    text.split_once('/')
        .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)))
        .filter(|(part, of)| (1..=*of).contains(part))
        .ok_or_else(|| "a part is written k/n with k from 1 to n".into())
}

#[cfg(test)]
mod tests;
