//! The manual pages, made of what `--help` is made of.

use std::fs;
use std::path::Path;

use clap::Command;

use crate::args::command;
use crate::failure::Failure;

/// Writes `cove.1` and a page for each verb into a directory, and says which.
pub fn write(directory: &Path) -> Result<Vec<String>, Failure> {
    let place = directory.display();
    fs::create_dir_all(directory)
        .map_err(|error| Failure::io(format!("failed to make {place}"), &error))?;
    let mut command = command().disable_help_subcommand(true);
    // Gives the verbs below verbs their whole names.
    command.build();
    let mut pages = Vec::new();
    write_page(&command, directory, &mut pages)?;
    Ok(pages)
}

fn write_page(command: &Command, directory: &Path, pages: &mut Vec<String>) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    let failed = |error: &std::io::Error| {
        Failure::io(format!("failed to write {name}.1 into {}", directory.display()), error)
    };
    let manual = clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).manual("Cove");
    manual.render(&mut page).map_err(|error| failed(&error))?;
    let page = with_values(with_headings(&String::from_utf8_lossy(&page)), command);
    fs::write(directory.join(format!("{name}.1")), page).map_err(|error| failed(&error))?;
    pages.push(format!("{name}.1"));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        write_page(verb, directory, pages)?;
    }
    Ok(())
}

/// What stands below the options under the headings that manual pages have for it.
fn with_headings(page: &str) -> String {
    let page = page.replacen("\n.SH EXTRA\nExamples:\n", "\n.SH EXAMPLES\n", 1);
    let page = page.replacen("\n.SH EXTRA\n", "\n.SH NOTES\n", 1);
    page.replacen("\nExamples:\n", "\n.SH EXAMPLES\n", 1)
}

/// The page with the values of options in its synopsis, where clap_mangen leaves them out.
fn with_values(page: String, command: &Command) -> String {
    let options = command.get_arguments().filter(|option| option.get_action().takes_values());
    options.fold(page, |page, option| {
        let (Some(long), Some([value, ..])) = (option.get_long(), option.get_value_names()) else {
            return page;
        };
        let bold = format!("\\fB{}\\fR", format!("--{long}").replace('-', "\\-"));
        let value = value.replace('-', "\\-");
        page.replacen(&format!("{bold}]"), &format!("{bold} \\fI{value}\\fR]"), 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_every_page_its_examples() {
        let dir = tempfile::tempdir().unwrap();
        let pages = write(dir.path()).unwrap();
        for page in ["cove.1", "cove-restore.1", "cove-files-grep.1", "cove-up.1"] {
            assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
        }
        for page in pages {
            let text = fs::read_to_string(dir.path().join(&page)).unwrap();
            let has_examples = text.contains("\n.SH EXAMPLES\n");
            let is_above = ["cove.1", "cove-files.1", "cove-volume.1"].contains(&&*page);
            assert!(has_examples || is_above, "{page}:\n{text}");
            assert!(!text.contains('\u{1b}') && !text.contains("EXTRA"), "{page}:\n{text}");
        }
        let up = fs::read_to_string(dir.path().join("cove-up.1")).unwrap();
        let synopsis = up.lines().skip_while(|line| !line.contains("SYNOPSIS")).nth(1).unwrap();
        let pool = r"[\fB\-\-pool\-bytes\fR \fISIZE\fR] [\fB\-\-pool\fR \fIDIR\fR]";
        assert!(synopsis.contains(pool) && synopsis.contains(r"[\fB\-\-detach\fR]"), "{synopsis}");
    }
}
