//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use cove_workspace::FORKS_MAX;

pub use self::help::{command, to_complete};
pub use self::serving::{CsiFlags, DiskFlags, HubArgs, HubFlags, NodeFlags, UpArgs, UpFlags};
pub use self::values::parse_bytes;
use self::values::{parse_part, parse_quota};
use crate::completion;

mod help;
mod serving;
mod values;

/// Whole workspaces that snapshot, fork and restore in milliseconds.
#[derive(Debug, Parser)]
#[command(name = "cove", version, max_term_width = 100)]
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
    /// Run the Volume Hub and the projects, without a node
    Hub(HubFlags),
    /// Run a node of a Volume Hub that is another process
    Node(NodeFlags),
    /// Stop the Cove that is running
    #[command(
        after_help = "Ends what serves in this home: Hub, projects and node. Where nothing runs\n\
        here it says so, and exits with 0.\n\n\
        Examples:\n\
        \x20 cove down"
    )]
    Down,
    /// Make a project, empty or from a directory
    #[command(after_help = "Examples:\n\
        \x20 cove new shop\n\
        \x20 cove new shop --from ./some-project\n\
        \x20 cove new shop --volume vol-k5q3…")]
    New {
        /// Its name: 1 to 40 of a-z, 0-9 and single inner -
        name: String,
        /// Copy this directory into it, dependencies and all
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        from: Option<PathBuf>,
        /// Make it of a volume that is no project's, by id or name, as it is; `cove volume ls` lists them
        #[arg(long, value_name = "VOLUME", conflicts_with = "from")]
        volume: Option<String>,
        /// The most that may be written to it, 1MiB to 1EiB, such as 20GiB [default: no limit, or the volume's]
        #[arg(long, value_name = "SIZE", value_parser = parse_quota)]
        quota: Option<u64>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// List the projects
    #[command(after_help = "Examples:\n\
        \x20 cove ls\n\
        \x20 cove ls --json | jq '.projects[].slug'")]
    Ls,
    /// Show where a project lives, what is saved and how it is
    #[command(after_help = "Examples:\n\
        \x20 cove show shop")]
    Show {
        /// The project
        #[arg(add = completion::projects())]
        name: String,
    },
    /// Print the directory of a project's files on this machine
    #[command(after_help = "Examples:\n\
        \x20 cd \"$(cove path shop)\"")]
    Path {
        /// The project
        #[arg(add = completion::projects())]
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
        Modes, times, links and attributes are kept; owners are not.\n\n\
        Examples:\n\
        \x20 cove cp ./src shop:/src\n\
        \x20 cove cp shop@v1:/dist ./dist\n\
        \x20 cove cp shop:/dist - | tar t\n\
        \x20 tar c src | cove cp - shop:/"
    )]
    Cp {
        /// Where SOURCE is a link, copy what it points to
        #[arg(long, short = 'L')]
        follow_link: bool,
        /// Asks for owners, which a project does not keep
        #[arg(long, short, hide = true)]
        archive: bool,
        /// What to copy: a local path, NAME:/path, or -
        #[arg(add = completion::sides())]
        source: OsString,
        /// Where to: NAME:/path, a local path, or -
        #[arg(add = completion::sides())]
        target: OsString,
    },
    /// Keep the present state as an entry of the timeline
    #[command(
        after_help = "The 5 newest entries of this kind stay; older ones roll off to the trash,\n\
        unless they are pinned. COVE_MAX_SNAPSHOTS_PER_PROJECT of `cove up` sets\n\
        another number, up to 200.\n\n\
        Examples:\n\
        \x20 cove snapshot shop -m \"before the refactor\"\n\
        \x20 cove snapshot shop -m \"it works\" --label v1"
    )]
    Snapshot {
        /// The project
        #[arg(add = completion::projects())]
        name: String,
        /// What this state is, in your words
        #[arg(long, short, value_name = "TEXT")]
        message: Option<String>,
        /// A name for it, to be written NAME@LABEL: 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-'
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// List a project's entries, newest first
    #[command(after_help = "Examples:\n\
        \x20 cove timeline shop\n\
        \x20 cove timeline shop --all")]
    Timeline {
        /// The project
        #[arg(add = completion::projects())]
        name: String,
        /// Also those that rolled off and lie in the trash
        #[arg(long)]
        all: bool,
    },
    /// Show what differs between two moments
    #[command(
        after_help = "NAME@x is a project at now, an entry id or its first 3 characters or\n\
        more, a label, or ~n, the n-th newest entry that somebody asked for.\n\n\
        Examples:\n\
        \x20 cove diff shop@v1\n\
        \x20 cove diff shop@v1..shop --stat\n\
        \x20 cove diff shop@~2 shop@~1 --name-status"
    )]
    Diff {
        /// A..B, or A B; A alone is compared with the present state
        #[arg(required = true, num_args = 1..=2, value_name = "NAME@x", add = completion::moments())]
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
    #[command(after_help = "Examples:\n\
        \x20 cove fork shop --as shop-intake\n\
        \x20 cove fork shop@v1 --count 8")]
    Fork {
        /// The source: NAME or NAME@x
        #[arg(add = completion::references())]
        source: String,
        /// The new name; without it NAME-1 or the next free number
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// How many, 1 to 100 [default: 1]; with --as x they are x-1, x-2, …
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(FORKS_MAX)))]
        count: Option<u32>,
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Go back to an entry; the state before stays in the timeline
    #[command(after_help = "Examples:\n\
        \x20 cove restore shop@v1\n\
        \x20 cove restore shop@~1 -- src/app.ts package.json")]
    Restore {
        /// The entry: NAME@x; or the project, and the entry behind it
        #[arg(value_name = "NAME@x", add = completion::entries())]
        name: String,
        /// The entry behind NAME: an id or its first characters, a label, or ~n
        #[arg(value_name = "ENTRY", hide = true)]
        entry: Option<String>,
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
    #[command(after_help = "Examples:\n\
        \x20 cove pin shop@v1")]
    Pin {
        /// The entry: NAME@x
        #[arg(add = completion::entries())]
        entry: String,
    },
    /// Leave an entry to retention again
    #[command(after_help = "Examples:\n\
        \x20 cove unpin shop@v1")]
    Unpin {
        /// The entry: NAME@x
        #[arg(add = completion::entries())]
        entry: String,
    },
    /// Name an entry, in place of the name it had
    #[command(after_help = "Examples:\n\
        \x20 cove label shop@k3f good\n\
        \x20 cove label shop@good --remove")]
    Label {
        /// The entry: NAME@x
        #[arg(add = completion::entries())]
        entry: String,
        /// The name: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'
        label: Option<String>,
        /// Take its name away
        #[arg(long, conflicts_with = "label")]
        remove: bool,
    },
    /// Give a project another name
    #[command(after_help = "Examples:\n\
        \x20 cove rename shop store")]
    Rename {
        /// The project
        #[arg(add = completion::projects())]
        name: String,
        /// The new name
        to: String,
    },
    /// Move a project or an entry to the trash for 7 days
    #[command(after_help = "Examples:\n\
        \x20 cove rm shop-intake\n\
        \x20 cove rm shop-1 shop-2\n\
        \x20 cove rm shop@~2")]
    Rm {
        /// NAME, or NAME@x for an entry; several of them
        #[arg(required = true, value_name = "NAME", add = completion::references())]
        names: Vec<String>,
    },
    /// List the projects in the trash
    #[command(after_help = "Examples:\n\
        \x20 cove trash")]
    Trash,
    /// Bring back a project or an entry from the trash
    #[command(after_help = "Examples:\n\
        \x20 cove undelete shop-intake\n\
        \x20 cove undelete shop@k3f")]
    Undelete {
        /// NAME, or NAME@x for an entry
        #[arg(add = completion::trash())]
        name: String,
    },
    /// Wait until everything captured of a project is saved
    #[command(after_help = "Examples:\n\
        \x20 cove snapshot shop -m \"first\" --no-wait && cove wait shop")]
    Wait {
        /// The project
        #[arg(add = completion::projects())]
        name: String,
    },
    /// Take over the object store and bring its projects back
    #[command(after_help = "Examples:\n\
        \x20 cove up --detach --objects s3://bucket/prefix && cove recover")]
    Recover {
        /// Also from a Cove that gave a sign of life within the last 60 s
        #[arg(long)]
        take: bool,
    },
    /// List and show volumes, also those that are no project's
    Volume {
        #[command(subcommand)]
        verb: VolumeVerb,
    },
    /// Check that the store holds what it must
    #[command(after_help = "Examples:\n\
        \x20 cove verify\n\
        \x20 cove verify shop --level 2\n\
        \x20 cove verify --read 1/7")]
    Verify {
        /// The project; all of them, and the volumes that are no project's, without it
        #[arg(add = completion::projects())]
        name: Option<String>,
        /// 0: heads; 1: every chunk is located; 2: packs are read [default: 1]
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
        level: Option<u8>,
        /// At level 2, read the k-th of n parts of the packs only
        #[arg(long, value_name = "K/N", value_parser = parse_part)]
        read: Option<(u32, u32)>,
    },
    /// Check this Cove and what it stands on
    #[command(after_help = "Examples:\n\
        \x20 cove doctor")]
    Doctor,
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n\
        \x20 source <(cove completions bash)           # in ~/.bashrc\n\
        \x20 source <(cove completions zsh)            # in ~/.zshrc, after compinit\n\
        \x20 cove completions fish | source            # in ~/.config/fish/config.fish")]
    Completions {
        /// bash, zsh or fish
        #[arg(hide_possible_values = true)]
        shell: Shell,
    },
    /// Write a manual page for each verb
    #[command(
        hide = true,
        after_help = "Examples:\n\
        \x20 cove man ~/.local/share/man/man1"
    )]
    Man {
        /// Where to; made where it is missing
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

/// The verbs of `volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeVerb {
    /// List the volumes
    #[command(after_help = "Examples:\n\
        \x20 cove volume ls\n\
        \x20 cove volume ls --json | jq '.volumes[] | select(.project == null)'")]
    Ls,
    /// Show a volume
    #[command(after_help = "Examples:\n\
        \x20 cove volume status vol-k5q3…")]
    Status {
        /// Its id, or its name
        #[arg(value_name = "VOLUME")]
        volume: String,
    },
}

/// The verbs of `files`.
#[derive(Debug, Subcommand)]
pub enum FilesVerb {
    /// List a directory
    #[command(after_help = "Examples:\n\
        \x20 cove files ls shop:/src\n\
        \x20 cove files ls -R shop@v1:/")]
    Ls {
        /// NAME:/path or NAME@x:/path
        #[arg(add = completion::places())]
        place: OsString,
        /// Everything below it
        #[arg(long, short = 'R')]
        recursive: bool,
        /// As it always is: with kind, mode, size and age
        #[arg(short, hide = true)]
        long: bool,
        /// As it always is: with names that begin with a dot
        #[arg(short, hide = true)]
        all: bool,
    },
    /// Print a file
    #[command(
        after_help = "With --json it prints {\"content\": {\"path\", \"bytes\", \"encoding\", \"data\"}}; the\n\
        encoding is utf-8, or base64 where the file is no text. Up to 64 MiB.\n\n\
        Examples:\n\
        \x20 cove files cat shop:/package.json\n\
        \x20 cove files cat shop@v1:/src/app.ts"
    )]
    Cat {
        /// NAME:/path or NAME@x:/path
        #[arg(add = completion::places())]
        place: OsString,
    },
    /// Replace a file by standard input
    #[command(after_help = "Examples:\n\
        \x20 cove files put shop:/notes.txt < notes.txt")]
    Put {
        /// NAME:/path
        #[arg(add = completion::places())]
        place: OsString,
    },
    /// Remove a file or directory
    #[command(after_help = "Examples:\n\
        \x20 cove files rm shop:/notes.txt\n\
        \x20 cove files rm -r shop:/dist")]
    Rm {
        /// NAME:/path
        #[arg(add = completion::places())]
        place: OsString,
        /// With everything below
        #[arg(long, short)]
        recursive: bool,
        /// Say nothing where nothing is there
        #[arg(long, short)]
        force: bool,
    },
    /// Move a file or directory
    #[command(after_help = "Examples:\n\
        \x20 cove files mv shop:/notes.txt shop:/docs/notes.txt")]
    Mv {
        /// NAME:/path
        #[arg(add = completion::places())]
        source: OsString,
        /// NAME:/path of the same project, or /path
        #[arg(add = completion::places())]
        target: OsString,
    },
    /// Make a directory and those above it
    #[command(after_help = "Examples:\n\
        \x20 cove files mkdir shop:/docs/adr")]
    Mkdir {
        /// NAME:/path
        #[arg(add = completion::places())]
        place: OsString,
        /// As it always is: one that is there is well
        #[arg(long, short, hide = true)]
        parents: bool,
    },
    /// Show one file
    #[command(after_help = "Examples:\n\
        \x20 cove files stat shop:/package.json")]
    Stat {
        /// NAME:/path or NAME@x:/path
        #[arg(add = completion::places())]
        place: OsString,
    },
    /// Find files by name
    #[command(
        after_help = "A pattern is a glob of *, ? and [...] over the whole name, or without any of\n\
        them a part of it. One with a / is compared with the whole path.\n\
        -name and -type are read as find(1) reads them.\n\n\
        Examples:\n\
        \x20 cove files find shop:/ '*.ts'\n\
        \x20 cove files find shop@v1:/src -name app -type d"
    )]
    Find {
        /// NAME:/path or NAME@x:/path
        #[arg(add = completion::places())]
        place: OsString,
        /// A pattern for the file's name
        #[arg(value_name = "PATTERN")]
        pattern: Option<String>,
        /// The same, as find(1) has it
        #[arg(long, value_name = "PATTERN", conflicts_with = "pattern")]
        name: Option<String>,
        /// Only files (f), directories (d) or symbolic links (l)
        #[arg(long = "type", value_name = "KIND", hide_possible_values = true)]
        kind: Option<Kind>,
    },
    /// Find lines by a text, in everything below a path
    #[command(
        after_help = "Files with NUL bytes and those over 16 MiB are not searched, and counted.\n\
        It exits with 0 also when no line matches: 1 stands for a mistake in Cove.\n\n\
        Examples:\n\
        \x20 cove files grep TODO shop:/src\n\
        \x20 cove files grep -iE 'fix|todo' shop@v1:/"
    )]
    Grep(GrepFlags),
}

/// What `files grep` looks for.
#[derive(Debug, Args)]
pub struct GrepFlags {
    /// The text, byte for byte; with -E a regular expression
    pub pattern: String,
    /// NAME:/path or NAME@x:/path
    #[arg(add = completion::places())]
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
    #[arg(long, short = 'n', hide = true)]
    pub line_number: bool,
    /// As it always is: with everything below
    #[arg(long, short, hide = true)]
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

#[cfg(test)]
mod tests;
