//! The man pages: those that the program writes of itself, and flexcast(7), which says of
//! rules and variables what README says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {out}{err}");
    assert_eq!(err, "", "{command:?} has something to say");
    out
}

fn flexcast(arguments: &[&str]) -> String {
    run(Command::new(env!("CARGO_BIN_EXE_flexcast")).args(arguments))
}

/// The pages that the program writes, in a folder of the test's own.
fn written(test: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("man")
        .join(test);
    std::fs::create_dir_all(&folder).unwrap();
    flexcast(&["man", folder.to_str().unwrap()]);
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

fn words(help: &str, starts: &str) -> BTreeSet<String> {
    let sign = |c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c));
    let all = help.split(sign).filter(|word| word.starts_with(starts));
    all.map(|word| word.trim_end_matches('-').to_owned())
        .filter(|word| word != starts)
        .collect()
}

#[test]
fn every_command_has_a_page_with_all_its_options() {
    let pages = written("options");
    let help = flexcast(&["--help"]);
    let (_, commands) = help.split_once("\nCommands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let names = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert_eq!(pages.len(), names.len() + 1, "{pages:?} {names:?}");
    for name in names {
        let of = |page: &&PathBuf| page.file_stem().unwrap() == format!("flexcast-{name}").as_str();
        let page = pages.iter().find(of);
        let page = page.unwrap_or_else(|| panic!("{name} has no page"));
        let text = std::fs::read_to_string(page).unwrap().replace("\\-", "-");
        for option in words(&flexcast(&[name, "--help"]), "--") {
            assert!(text.contains(&option), "{name} {option}");
        }
        for section in [
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "ENVIRONMENT",
            "SEE ALSO",
        ] {
            assert!(
                text.contains(&format!("\n.SH {section}\n")),
                "{name} {section}"
            );
        }
    }
}

#[test]
fn the_pages_are_typeset_without_a_warning() {
    for page in written("typeset") {
        let mut groff = Command::new("groff");
        groff.args(["-t", "-man", "-ww", "-Tutf8", "-P-c"]);
        assert!(!run(groff.arg(&page)).is_empty());
        let mut mandoc = Command::new("mandoc");
        run(mandoc.args(["-Tlint", "-Wwarning"]).arg(&page));
    }
}

/// The first cells, where they are code, of a table in README's section.
fn cells(section: &str) -> BTreeSet<String> {
    let readme = include_str!("../../../README.md");
    let (_, text) = readme.split_once(&format!("\n## {section}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let cell = |line: &str| {
        let cell = line.strip_prefix("| ")?.split(" |").next()?;
        (!cell.starts_with("---") && cell != "part" && cell != "variable")
            .then(|| cell.trim_matches('`').to_owned())
    };
    text.lines().filter_map(cell).collect()
}

/// The entries of a section of flexcast(7).
fn entries(section: &str) -> BTreeSet<String> {
    let page = include_str!("../../flexcast/man/flexcast.7");
    let (_, text) = page.split_once(&format!("\n.SH {section}\n")).unwrap();
    let lines: Vec<&str> = text.split("\n.SH ").next().unwrap().lines().collect();
    let entries = lines.windows(2).filter(|pair| pair[0] == ".TP");
    entries
        .map(|pair| pair[1].trim_start_matches(".B ").to_owned())
        .collect()
}

/// The roles: what stands in bold in README's table.
fn roles() -> BTreeSet<String> {
    let bold = |cell: String| Some(cell.strip_prefix("**")?.split("**").next()?.to_owned());
    cells("Roles").into_iter().filter_map(bold).collect()
}

#[test]
fn rules_roles_and_variables_are_those_of_the_readme() {
    assert!(cells("Variables").contains("FLEXCAST_MAP"));
    assert_eq!(entries("ENVIRONMENT"), cells("Variables"));
    assert!(cells("Rules").contains("role="));
    assert_eq!(entries("RULES"), cells("Rules"));
    assert!(roles().contains("joins"));
    assert_eq!(entries("ROLES"), roles());
}
