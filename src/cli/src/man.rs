//! `flexcast man FOLDER`: the program's man pages, written from its own command line.
//!
//! ```text
//!   NAME SYNOPSIS DESCRIPTION OPTIONS    what --help says (clap_mangen)
//!   COMMANDS                             of flexcast(1) alone
//!   EXIT STATUS EXAMPLES NOTES           what --help says behind the options
//!   ENVIRONMENT FILES SEE ALSO           below
//! ```
//! Promises: no option is missing from its page, and none is left over. Is no command that
//! --help or a completion names: scripts/install.sh calls it. The pages of the library and
//! of the rules are files (`flexcast/man`).

use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;

use crate::failure::Failure;

/// The first argument of [`ManPages`]. No subcommand: people have no use for it.
pub(crate) const MAN: &str = "man";

/// Write the man pages of this program.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true)]
pub(crate) struct ManPages {
    /// Where to; it exists
    folder: PathBuf,
}

const ENVIRONMENT: &str = "\
.SH ENVIRONMENT
.BR flexcast (7)
lists the variables that begin with FLEXCAST_. An option goes before its variable.
";
const RUN_FILES: &str = "\
.SH FILES
.TP
.I libflexcast_preload.so
The library that is loaded into the program: beside
.BR flexcast ,
in
.I ../lib
from there, or where FLEXCAST_PRELOAD says.
";

impl ManPages {
    pub(crate) fn execute(&self, program: &Command) -> Result<(), Failure> {
        for (name, text) in pages(program) {
            let path = self.folder.join(name);
            let written = std::fs::write(&path, text);
            written.map_err(|error| Failure::Output { path, error })?;
        }
        Ok(())
    }
}

/// The pages, with the names of their files.
fn pages(program: &Command) -> Vec<(String, String)> {
    let mut program = program.clone();
    program.build();
    let commands = commands(&program);
    let mut pages = vec![(
        "flexcast.1".to_owned(),
        page(&program, "flexcast", &commands),
    )];
    for command in shown(&program) {
        let name = format!("flexcast-{}", command.get_name());
        let file = format!("{name}.{}", chapter(command));
        let named = command
            .clone()
            .name(name.clone())
            .display_name(name.clone());
        pages.push((file, page(&named, &name, "")));
    }
    pages
}

fn shown(program: &Command) -> impl Iterator<Item = &Command> {
    let help = |command: &&Command| command.get_name() != "help" && !command.is_hide_set();
    program.get_subcommands().filter(help)
}

/// Who runs it: 8 is for administrators.
fn chapter(command: &Command) -> &'static str {
    match command.get_name().trim_start_matches("flexcast-") {
        "relay" => "8",
        _ => "1",
    }
}

/// The section of flexcast(1) that names the others.
fn commands(program: &Command) -> String {
    let entry = |command: &Command| {
        let (name, chapter) = (command.get_name(), chapter(command));
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        format!(
            ".TP\n.BR flexcast\\-{name} ({chapter})\n{}.\n",
            typeset(&about)
        )
    };
    let entries: String = shown(program).map(entry).collect();
    format!(".SH COMMANDS\n{entries}")
}

fn page(command: &Command, name: &str, commands: &str) -> String {
    let title = format!(
        ".TH {name} {} 2026-11-24 \"Flexcast {}\" \"Flexcast\"\n",
        chapter(command),
        env!("CARGO_PKG_VERSION"),
    );
    let man = Man::new(command.clone());
    let mut bytes = title.into_bytes();
    // Writing to a vector cannot fail.
    let _ = man.render_name_section(&mut bytes);
    let _ = man.render_synopsis_section(&mut bytes);
    let _ = man.render_description_section(&mut bytes);
    let _ = man.render_options_section(&mut bytes);
    // An empty line that clap_mangen means to be one.
    let mut text = String::from_utf8_lossy(&bytes).replace("\n.br\n\n.br\n", "\n.sp\n");
    text.push_str(commands);
    let behind = command.get_after_long_help().map(ToString::to_string);
    text.push_str(&Behind::read(&behind.unwrap_or_default()).typeset());
    text.push_str(ENVIRONMENT);
    if name == "flexcast-run" {
        text.push_str(RUN_FILES);
    }
    let other = match name {
        "flexcast" => ".BR flexcast\\-run (1),\n.BR flexcast\\-relay (8),\n",
        _ => ".BR flexcast (1),\n",
    };
    text.push_str(".SH SEE ALSO\n");
    text.push_str(other);
    text.push_str(".BR flexcast (3),\n.BR flexcast (7)\n");
    ascii(&text)
}

/// What --help says behind the options, line by line.
#[derive(Default)]
struct Behind<'a> {
    examples: Vec<&'a str>,
    codes: Vec<&'a str>,
    notes: Vec<&'a str>,
}

impl<'a> Behind<'a> {
    fn read(text: &'a str) -> Behind<'a> {
        let mut behind = Behind::default();
        let mut heading = "";
        for line in text.lines() {
            match line {
                "Examples:" | "Exit codes:" => {
                    heading = line;
                    continue;
                }
                line if !line.is_empty() && !line.starts_with(' ') => heading = "",
                _ => {}
            }
            match heading {
                "Examples:" => behind.examples.push(line),
                "Exit codes:" => behind.codes.push(line),
                _ => behind.notes.push(line),
            }
        }
        behind
    }

    fn typeset(&self) -> String {
        let sections = [
            ("EXIT STATUS", &self.codes),
            ("EXAMPLES", &self.examples),
            ("NOTES", &self.notes),
        ];
        let there = |(_, lines): &(_, &Vec<&str>)| lines.iter().any(|line| !line.is_empty());
        let section = |(name, lines): (&str, &Vec<&str>)| {
            let lines = lines.join("\n");
            format!(".SH {name}\n.nf\n{}\n.fi\n", typeset(lines.trim_end()))
        };
        sections.into_iter().filter(there).map(section).collect()
    }
}

/// Text as it stands: nothing of it is an instruction, and signs are those of programs.
fn typeset(text: &str) -> String {
    let line = |line: &str| {
        let line = line.strip_prefix("  ").unwrap_or(line);
        let mut set = line.replace('\\', "\\e").replace('-', "\\-");
        set = set.replace('\'', "\\(aq").replace('`', "\\(ga");
        match set.starts_with('.') {
            true => format!("\\&{set}"),
            false => set,
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Other signs by their numbers, whatever the reader's locale.
fn ascii(text: &str) -> String {
    let sign = |sign: char| match sign.is_ascii() {
        true => sign.to_string(),
        false => format!("\\[u{:04X}]", u32::from(sign)),
    };
    text.chars().map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_behind_the_options_becomes_sections() {
        let text = "Note one.\n\nExamples:\n  a -b 'c'\n\n  d\n\nNote two\nof two lines.\n\nExit codes:\n  0  done\n  .x";
        let set = Behind::read(text).typeset();
        let codes = ".SH EXIT STATUS\n.nf\n0  done\n\\&.x\n.fi\n";
        let examples = ".SH EXAMPLES\n.nf\na \\-b \\(aqc\\(aq\n\nd\n.fi\n";
        assert!(
            set.starts_with(&format!("{codes}{examples}.SH NOTES\n")),
            "{set}"
        );
        assert!(
            set.contains("Note one.\n\nNote two\nof two lines.\n"),
            "{set}"
        );
        assert_eq!(Behind::read("").typeset(), "");
    }

    #[test]
    fn signs_that_are_not_ascii_go_by_number() {
        assert_eq!(ascii("a\u{2026}"), "a\\[u2026]");
        assert_eq!(typeset("a\\b"), "a\\eb");
    }
}
