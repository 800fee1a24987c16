//! The man pages of the calls: each row of RETURN VALUE and ERRORS has a case in
//! `programs/rows`, which causes it; each call and each option of the header has its
//! place; and the pages are sound as pages.
//!
//! ```text
//! .TP \" CASE
//! .B VALUE       (or .I)      a row of the page's call
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flexcast_testbed::World;

use super::{compile, declared, header, run, As};

fn man() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("man")
}

/// Name (`flexcast_send.3`) and text of all pages.
fn pages() -> Vec<(String, String)> {
    let files = std::fs::read_dir(man()).unwrap().map(|file| file.unwrap());
    let page = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, std::fs::read_to_string(file.path()).unwrap())
    };
    files.map(page).collect()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(man().join(name)).unwrap()
}

/// The pages of calls, by the calls' names; that of sources for TCP is none (`compat.rs`).
fn calls() -> Vec<(String, String)> {
    let call = |(name, text): (String, String)| {
        let call = name
            .strip_suffix(".3")
            .filter(|name| name.contains('_') && *name != "flexcast_compat")?;
        Some((call.to_owned(), text))
    };
    pages().into_iter().filter_map(call).collect()
}

fn section<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("\n.SH {name}\n");
    let (_, rest) = text.split_once(&start).unwrap_or(("", ""));
    rest.split("\n.SH ").next().unwrap()
}

/// The entries of a section: what stands behind `.TP`, and the word of the next line.
fn entries(section: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = section.lines().collect();
    let entry = |pair: &[&str]| {
        let case = pair[0].strip_prefix(".TP")?;
        let value = pair[1].strip_prefix(".B ").or(pair[1].strip_prefix(".I "));
        let value = value.unwrap_or_else(|| panic!("no .B or .I behind .TP: {}", pair[1]));
        let case = case.trim_start_matches(" \\\" ").to_owned();
        Some((case, value.to_owned()))
    };
    lines.windows(2).filter_map(entry).collect()
}

/// `CALL VALUE CASE` of every row.
fn rows() -> Vec<String> {
    let of_call = |(call, text): (String, String)| {
        let both = [section(&text, "RETURN VALUE"), section(&text, "ERRORS")];
        let rows: Vec<(String, String)> = both.into_iter().flat_map(entries).collect();
        assert!(!rows.is_empty(), "{call} has no rows");
        rows.into_iter().map(move |(case, value)| {
            assert!(!case.is_empty(), "{call}: {value} names no case");
            format!("{call} {value} {case}")
        })
    };
    calls().into_iter().flat_map(of_call).collect()
}

#[test]
fn every_row_of_the_pages_has_a_case_and_every_case_its_row() {
    let program = compile("rows-listed", "rows", As::C);
    let cases = run(Command::new(program).arg("list"));
    let cases: BTreeSet<String> = cases.lines().map(str::to_owned).collect();
    let listed = rows();
    let rows: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(rows.len(), listed.len(), "a row stands twice: {listed:?}");
    let without_case: Vec<_> = rows.difference(&cases).collect();
    assert!(
        without_case.is_empty(),
        "rows without case: {without_case:?}"
    );
    let without_row: Vec<_> = cases.difference(&rows).collect();
    assert!(without_row.is_empty(), "cases without row: {without_row:?}");
}

/// How many cases run at a time: some wait for what takes seconds.
const AT_A_TIME: usize = 4;

/// Runs one in a network namespace of its own; what is wrong with it.
fn fault(program: &Path, row: &str) -> Option<String> {
    let begun = Instant::now();
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(program)
        .args(row.split(' '))
        .output()
        .unwrap();
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // None waits for more than a time limit of its own making.
    let well = output.status.success() && took < Duration::from_secs(20);
    (!well).then(|| format!("{row}: {} after {took:?}: {said}", output.status))
}

#[test]
fn every_row_of_the_pages_is_what_the_call_gives() {
    let Some(_world) = World::enter("rows::every_row_of_the_pages_is_what_the_call_gives") else {
        return;
    };
    let program = compile("rows", "rows", As::C);
    let rows = Mutex::new(rows());
    let next = || rows.lock().unwrap().pop();
    let work = || std::iter::from_fn(next).filter_map(|row| fault(&program, &row));
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers = [(); AT_A_TIME].map(|()| scope.spawn(|| work().collect::<Vec<_>>()));
        let wrong = workers.map(|worker| worker.join().unwrap());
        wrong.into_iter().flatten().collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_call_of_the_headers_has_a_page_with_all_sections() {
    let pages = calls();
    let names: BTreeSet<String> = pages.iter().map(|(call, _)| call.clone()).collect();
    let declared: BTreeSet<String> = declared(&header()).into_iter().collect();
    assert_eq!(names, declared);
    for (call, text) in pages {
        for name in [
            "SYNOPSIS",
            "DESCRIPTION",
            "RETURN VALUE",
            "DIFFERENCES FROM BSD SOCKETS",
            "SEE ALSO",
        ] {
            assert!(!section(&text, name).is_empty(), "{call}: no {name}");
        }
        let overview = format!("\\fB{call}\\fP(3)");
        assert!(
            page("flexcast.3").contains(&overview),
            "not in flexcast(3): {call}"
        );
    }
}

#[test]
fn every_option_of_the_header_is_documented_and_none_else() {
    let text = header();
    let option = |line: &str| {
        let mut words = line.split_whitespace();
        let define = words.next() == Some("#define");
        let name = words
            .next()
            .filter(|name| define && name.starts_with("FLEXCAST_"))?;
        words.next().map(|_| name.to_owned())
    };
    let defined: BTreeSet<String> = text.lines().filter_map(option).collect();
    let documented = page("flexcast_setsockopt.3");
    let documented: BTreeSet<String> = entries(section(&documented, "OPTIONS"))
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert!(defined.contains("FLEXCAST_VIA"), "{defined:?}");
    assert_eq!(documented, defined);
}

#[test]
fn what_the_overview_says_of_errors_stands_in_the_pages_of_the_calls() {
    let text = page("flexcast.3");
    let table = section(&text, "ERRORS").split(".TE").next().unwrap();
    let lines = table.lines().filter(|line| line.matches('\t').count() == 2);
    let rows = rows();
    let mut seen = 0;
    for line in lines.skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let (call, value) = (cells[1], cells[2]);
        let calls: Vec<String> = match call {
            "every call" => calls()
                .into_iter()
                .map(|(call, _)| call)
                .filter(|call| call != "flexcast_socket" && call != "flexcast_strerror")
                .collect(),
            call => vec![call.to_owned()],
        };
        for call in calls {
            let row = format!("{call} {value} ");
            assert!(rows.iter().any(|known| known.starts_with(&row)), "{row}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn the_pages_are_typeset_without_a_warning() {
    for (name, _) in pages() {
        let mut command = Command::new("groff");
        command.args(["-t", "-man", "-ww", "-Tutf8", "-P-c"]);
        let text = run(command.arg(man().join(&name)));
        assert!(!text.is_empty(), "{name}");
        run(Command::new("mandoc")
            .args(["-Tlint", "-Wwarning"])
            .arg(man().join(&name)));
    }
}

/// The error numbers that the sources of the C API name, but for its compatible calls
/// (`compat.rs` has theirs).
fn named_errors() -> BTreeSet<String> {
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let of_c = std::fs::read_dir(sources.join("c")).unwrap();
    let files = of_c.map(|file| file.unwrap().path());
    let files = files.chain(["endpoint.rs", "process.rs"].map(|file| sources.join(file)));
    let mut named = BTreeSet::new();
    for file in files.filter(|file| file.is_file()) {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.lines().filter(|line| !line.trim().starts_with("//"));
        for line in code {
            let numbers = line.split("Errno::").skip(1);
            let number =
                numbers.filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
            let number = number.filter(|name| name.chars().all(|c| !c.is_ascii_lowercase()));
            named.extend(number.map(str::to_owned));
        }
    }
    named
}

#[test]
fn every_error_that_the_sources_name_stands_in_a_page() {
    let rows = rows();
    let values: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.split(' ').nth(1))
        .collect();
    let mut named = named_errors();
    assert!(named.contains("EFAULT"), "{named:?}");
    // What a panic of the library's becomes: a fault, which nothing is known to cause.
    named.remove("EIO");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !values.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
