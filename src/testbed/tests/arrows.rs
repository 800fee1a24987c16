//! The rooms of this workspace, and who may lean on whom.
//!
//! Promises: a crate that leans where it may not, `unsafe` outside its rooms,
//! and a file without its opening comment each fail here, by name. Each check
//! is shown to fail on a wrong example first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// room, what it may lean on (the arrows of the architecture).
const ARROWS: [(&str, &[&str]); 10] = [
    ("wire", &[]),
    ("rules", &["wire"]),
    ("engine", &["wire"]),
    ("udp", &[]),
    ("runtime", &["engine", "udp", "wire"]),
    ("flexcast", &["runtime", "rules", "wire"]),
    ("preload", &["runtime", "flexcast", "rules", "wire"]),
    ("relay", &["runtime", "engine", "udp", "wire"]),
    (
        "cli",
        &[
            "relay", "flexcast", "runtime", "udp", "engine", "rules", "wire",
        ],
    ),
    ("testbed", &["rules", "wire"]),
];

/// Rooms that may speak to the C library, and hold unsafe code.
const UNSAFE_ROOMS: [&str; 3] = ["udp", "preload", "flexcast"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// What is wrong with the dependencies of `room`.
fn wrong_arrows(room: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let names = |table: Option<&toml::Value>| -> Vec<String> {
        let table = table.and_then(toml::Value::as_table);
        table.map_or(Vec::new(), |t| t.keys().cloned().collect())
    };
    let mut tables = vec![&manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(
        targets
            .into_iter()
            .flat_map(|t| t.values().filter_map(toml::Value::as_table)),
    );
    let mut wrong = Vec::new();
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for name in tables.iter().flat_map(|table| names(table.get(kind))) {
            let ours = match name.as_str() {
                "flexcast" => Some("flexcast"),
                other => other.strip_prefix("flexcast-"),
            };
            let testing = kind == "dev-dependencies";
            let fine = match ours {
                Some("testbed") => testing,
                Some(other) => testing || allowed.contains(&other),
                None => name != "libc" || UNSAFE_ROOMS.contains(&room),
            };
            if !fine {
                wrong.push(format!("{room} leans on {name} ({kind})"));
            }
        }
    }
    wrong
}

/// The lines of a Rust file that hold the keyword `unsafe` in code.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let code = without_comments_and_strings(source);
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| line.split(|c| !word(c)).any(|w| w == "unsafe"))
        .map(|(n, _)| n + 1)
        .collect()
}

/// Comments and string contents are blanked; lines stay where they are.
fn without_comments_and_strings(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest.find("\"'").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\\\"'") {
            4
        } else if c == '"' {
            string_length(rest)
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let newlines = rest[..skipped].matches('\n').count();
        out.push_str(&"\n".repeat(newlines));
        rest = &rest[skipped..];
    }
    out
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a source file opens by saying what it is.
fn opens_with_header(name: &str, text: &str) -> bool {
    let first = text.lines().find(|line| !line.starts_with("#!/"));
    let first = first.unwrap_or_default();
    match name.rsplit('.').next() {
        Some("rs") => first.starts_with("//! "),
        Some("sh") => first.starts_with("# "),
        Some("py") => first.starts_with("# ") || first.starts_with("\"\"\""),
        Some("c" | "h") => first.starts_with("/*") || first.starts_with("//"),
        _ => true,
    }
}

fn sources(folder: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            sources(&path, into);
        } else if [".rs", ".sh", ".py", ".c", ".h"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            into.insert(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let root = root();
    let mut found = BTreeSet::new();
    for folder in ["src", "shim-tests", "legacy-apps", "scripts"] {
        sources(&root.join(folder), &mut found);
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        (name, std::fs::read_to_string(path).unwrap())
    };
    found.into_iter().map(read).collect()
}

#[test]
fn rooms_lean_only_where_they_may() {
    let wrong = "[dependencies]\nflexcast-udp = \"1\"\nlibc = \"1\"\nflexcast-testbed = \"1\"\n\
                 [target.x.dependencies]\nflexcast = \"1\"\n\
                 [dev-dependencies]\nflexcast-testbed = \"1\"\nlibc = \"1\"\n";
    let found = wrong_arrows("engine", &["wire"], wrong);
    assert_eq!(found.len(), 5, "the check must see these: {found:?}");
    let right =
        "[dependencies]\nflexcast-wire = \"1\"\n[dev-dependencies]\nflexcast-testbed = \"1\"";
    assert!(wrong_arrows("engine", &["wire"], right).is_empty());

    let mut found = Vec::new();
    let folders = std::fs::read_dir(root().join("src")).unwrap();
    let mut rooms = BTreeSet::new();
    for folder in folders.map(|entry| entry.unwrap().path()) {
        let Ok(manifest) = std::fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        let room = folder.file_name().unwrap().to_string_lossy().into_owned();
        match ARROWS.iter().find(|(name, _)| *name == room) {
            Some((_, allowed)) => found.extend(wrong_arrows(&room, allowed, &manifest)),
            None => found.push(format!("{room} is no room of the architecture")),
        }
        rooms.insert(room);
    }
    assert_eq!(rooms.len(), ARROWS.len(), "{rooms:?}");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_stands_only_in_its_rooms() {
    let example =
        "// unsafe\n#![forbid(unsafe_code)]\nlet s = \"unsafe\"; /* unsafe\n*/\nunsafe { f() }\n";
    assert_eq!(unsafe_lines(example), [5], "the check must see this");
    assert_eq!(unsafe_lines("let q = '\"'; unsafe {}"), [1]);

    let mut found = Vec::new();
    let mut allowed = 0;
    for (name, text) in all_sources()
        .iter()
        .filter(|(name, _)| name.ends_with(".rs"))
    {
        let lines = unsafe_lines(text);
        if UNSAFE_ROOMS
            .iter()
            .any(|room| name.starts_with(&format!("src/{room}/")))
        {
            allowed += lines.len();
        } else {
            found.extend(lines.iter().map(|line| format!("{name}:{line}")));
        }
    }
    assert!(allowed > 0, "the rooms that may hold it hold some");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    assert!(!opens_with_header("a.rs", "use std::fs;\n"));
    assert!(!opens_with_header("a.sh", "#!/bin/sh\nset -e\n"));
    assert!(opens_with_header("a.sh", "#!/bin/sh\n# Runs it.\n"));
    assert!(opens_with_header("a.rs", "//! What it is.\n"));

    let sources = all_sources();
    assert!(sources.len() > 50, "the tree is read");
    let bare = sources
        .iter()
        .filter(|(name, text)| !opens_with_header(name, text));
    let bare: Vec<&String> = bare.map(|(name, _)| name).collect();
    assert!(bare.is_empty(), "{bare:#?}");
}
