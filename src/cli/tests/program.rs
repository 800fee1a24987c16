//! The program `flexcast` from outside: what it runs, refuses, and ends with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn flexcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexcast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FLEXCAST_")) {
        command.env_remove(name);
    }
    command.env_remove("LD_PRELOAD").args(arguments);
    command
}

/// Code, standard output, standard error.
fn end(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn ends(arguments: &[&str]) -> (i32, String, String) {
    end(flexcast(arguments).output().unwrap())
}

/// Something harmless that the dynamic linker can preload.
fn stand_in() -> PathBuf {
    let libraries = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"];
    let mut found = libraries
        .iter()
        .map(|folder| Path::new(folder).join("libm.so.6"));
    found
        .find(|path| path.exists())
        .unwrap()
        .canonicalize()
        .unwrap()
}

#[test]
fn a_program_runs_with_the_map_and_the_library_in_its_environment() {
    let library = stand_in();
    let script = "echo $FLEXCAST_MAP; echo $FLEXCAST_LOG; echo $LD_PRELOAD; exit 7";
    let map = [
        "run",
        "-vv",
        "--map",
        "239.1.1.1=localhost:",
        "--map",
        "10.0.0.5",
    ];
    let wrong = ends(&[&map[..], &["--", "sh"]].concat());
    assert_eq!(wrong.0, 2, "{wrong:?}");
    let map = [
        "run",
        "-vv",
        "--map",
        "239.1.1.1=localhost",
        "--map",
        "10.0.0.5",
    ];
    let output = flexcast(&[&map[..], &["--", "sh", "-c", script]].concat())
        .env("FLEXCAST_PRELOAD", &library)
        .env("FLEXCAST_MAP", "10.0.0.6")
        .output();
    let (code, out, err) = end(output.unwrap());
    assert_eq!((code, err.as_str()), (7, ""), "the program's own code");
    let expected = format!(
        "239.1.1.1=127.0.0.1 10.0.0.5 10.0.0.6\ninfo\n{}\n",
        library.display()
    );
    assert_eq!(out, expected);
}

#[test]
fn what_cannot_be_run_ends_as_a_shell_would() {
    let map = ["run", "--map", "239.1.1.1", "--"];
    let (code, _, err) = ends(&[&map[..], &["no-such-program"]].concat());
    assert!(
        code == 127 && err.contains("no-such-program"),
        "{code} {err}"
    );
    let (code, _, err) = ends(&[&map[..], &["/etc/passwd"]].concat());
    assert!(code == 126 && err.contains("permission"), "{code} {err}");
    let output = flexcast(&[&map[..], &["sh", "-c", "exit 0"]].concat())
        .env("FLEXCAST_PRELOAD", "/nowhere.so")
        .output();
    let (code, _, err) = end(output.unwrap());
    assert!(code == 1 && err.contains("/nowhere.so"), "{code} {err}");
}

#[test]
fn wrong_use_ends_with_2_and_says_where() {
    let (code, _, err) = ends(&["run", "--map", "239.1.1.1,rol=push", "--", "sh"]);
    assert!(
        code == 2 && err.contains("byte 10") && err.contains("\"role\""),
        "{code} {err}"
    );
    let (code, _, err) = ends(&["run", "--", "sh"]);
    assert!(code == 2 && err.contains("no rule given"), "{code} {err}");
    let output = flexcast(&["map", "239.1.1.1:1"])
        .env("FLEXCAST_MPA", "x")
        .output();
    let (code, _, err) = end(output.unwrap());
    assert!(code == 2 && err.contains("FLEXCAST_MAP"), "{code} {err}");
}

#[test]
fn wrong_use_of_send_and_recv_names_the_value_and_the_remedy() {
    for (arguments, words) in [
        (&["recv"][..], &["<CHANNEL>"][..]),
        (&["recv", "10.0.0.5"], &["\"10.0.0.5\"", "SENDER#ID"]),
        (&["recv", "self#0"], &["\"self#0\"", "SENDER#ID"]),
        (&["recv", "239.1.1.4:5000"], &["239.1.1.4:5000", "--map"]),
        (
            &["recv", "--map", "239.1.1.4", "239.1.1.4:5000"],
            &["nobody says who sends 239.1.1.4:5000"],
        ),
        (&["recv", "self#7", "-t", "0"], &["\"0\"", "seconds"]),
        (&["recv", "self#7", "-c", "0"], &["'0'", "--count"]),
        (&["recv", "self#7", "-qv"], &["--quiet"]),
        (&["send", "self#7", "-r", "4X"], &["\"4X\"", "2000pps"]),
        (&["send", "self#7", "-s", "65512"], &["65512", "65511"]),
        (&["send", "self#7", "-w", "0"], &["\"0\"", "N:SECONDS"]),
        (&["send", "10.9.9.9#7"], &["10.9.9.9#7", "FLEXCAST_SELF"]),
        (
            &["run", "-m", "239.1.1.1", "-w", "239.1.1.1:5", "--", "sh"],
            &["\"239.1.1.1:5\"", "CHANNEL=N[:SECONDS]"],
        ),
        (
            &["run", "-m", "239.1.1.1", "-w", "239.2.2.2:5=1", "--", "sh"],
            &["no rule takes 239.2.2.2:5"],
        ),
    ] {
        let (code, out, err) = ends(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        for word in words {
            assert!(err.contains(word), "{arguments:?}: {word} in {err}");
        }
    }
    // What is wrong with the world, not with the words, is 1.
    for arguments in [
        &["send", "self#7", "/nowhere"][..],
        &["recv", "self#7", "-o", "/nowhere/file"],
    ] {
        let (code, _, err) = ends(arguments);
        assert!(code == 1 && err.contains("/nowhere"), "{code} {err}");
    }
}

#[test]
fn help_explains_channels_and_exit_codes() {
    for command in ["send", "recv"] {
        let (code, out, _) = ends(&[command, "--help"]);
        assert_eq!(code, 0);
        for word in ["SENDER#ID", "GROUP:PORT", "Examples:", "Exit codes:"] {
            assert!(out.contains(word), "{command}: {word}");
        }
    }
}

#[test]
fn map_says_which_rule_takes_an_address() {
    let rules = ["map", "--map", "10.0.0.9 239.1.0.0/16=127.0.0.1"];
    let (code, out, err) = ends(&[&rules[..], &["239.1.1.4:5000"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("rule 2, 239.1.0.0/16=127.0.0.1"), "{out}");
    assert!(
        out.contains("this host as 127.0.0.1 is the sender"),
        "{out}"
    );
    let (code, out, _) = ends(&[&rules[..], &["--json", "239.1.1.4:5000", "1.1.1.1:1"]].concat());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(json[0]["id"], "262787591050120");
    assert_eq!(json[0]["sends_here"], true);
    assert!(json[1]["rule"].is_null());
}

#[test]
fn completions_name_the_subcommands() {
    // How each shell's script names a subcommand.
    for (shell, before, after) in [
        ("bash", "__", ")\n"),
        ("zsh", "'", ":"),
        ("fish", "-a \"", "\""),
    ] {
        let (code, out, _) = ends(&["completions", shell]);
        let named = |word: &str| out.contains(&format!("{before}{word}{after}"));
        assert!(
            code == 0 && named("status") && named("completions"),
            "{shell}"
        );
        assert!(
            !named("hold") && !named("try-capture"),
            "{shell}: of `run` and `doctor` alone"
        );
    }
}

#[test]
fn check_says_how_the_rules_are_understood_and_starts_nothing() {
    let rules = "239.1.0.0/16=127.0.0.1 239.1.1.4=10.98.0.2 10.0.0.0/24:5019=10.0.0.5";
    let (code, out, err) = ends(&["run", "--map", rules, "--refresh", "5s", "--check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{err}");
    for words in [
        "rule 1: 239.1.0.0/16=127.0.0.1\n  239.1.0.0:5000, for example\n",
        "this host as 127.0.0.1 is the sender",
        "rule 2: 239.1.1.4=10.98.0.2\n  239.1.1.4:5000 is taken by rule 1 before it\n",
        "rule 3: 10.0.0.0/24:5019=10.0.0.5\n  10.0.0.0:5019, for example\n",
        "FLEXCAST_REFRESH=5",
    ] {
        assert!(out.contains(words), "{words:?} in {out}");
    }
    let (code, _, err) = ends(&["run", "--map", "239.1.1.4=nonsense:", "--check"]);
    assert!(code == 2 && err.contains("byte"), "{err}");
    let (code, _, err) = ends(&["run", "--check"]);
    assert!(code == 2 && err.contains("no rule given"), "{err}");
}

#[test]
fn a_dry_run_says_what_would_run_and_refuses_what_would_be_refused() {
    let mark = std::env::temp_dir().join(format!("dry-run-{}", std::process::id()));
    let touch = format!("touch {}", mark.display());
    let library = stand_in();
    let map = ["run", "--map", "239.1.0.0/16=self", "-vv"];
    let library = library.to_str().unwrap();
    let more = ["--preload", library, "--wait-for", "239.1.1.4:5000=3:60"];
    let (code, out, err) =
        ends(&[&map[..], &more, &["--dry-run", "--", "sh", "-c", &touch]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{err}");
    assert!(!mark.exists(), "nothing was started");
    for words in [
        &format!("/sh -c {touch}\n"),
        "after waiting for receivers, 239.1.1.4:5000=3:60\n",
        &format!("with {library} and\nrule 1: 239.1.0.0/16=self\n"),
        "FLEXCAST_LOG=info\n",
    ] {
        assert!(out.contains(words), "{words:?} in {out}");
    }
    let gone = ends(&[&map[..], &["--dry-run", "--", "/nowhere/at/all"]].concat());
    assert_eq!(gone.0, 127, "{gone:?}");
}

#[test]
fn each_setting_has_an_option_that_is_named_when_it_is_wrong() {
    let map = ["run", "--map", "239.1.0.0/16=self"];
    let given = [
        ("--refresh", "8s"),
        ("--heartbeat", "200ms"),
        ("--hold", "20s"),
        ("--path", "user"),
        ("--log", "debug,/tmp/log"),
        ("--port", "7451"),
        ("--self", "192.0.2.1"),
    ];
    let options: Vec<&str> = given
        .iter()
        .flat_map(|(name, value)| [*name, *value])
        .collect();
    let (code, out, _) = ends(&[&map[..], &options, &["--check"]].concat());
    assert_eq!(code, 0, "{out}");
    for variable in [
        "FLEXCAST_REFRESH=8",
        "FLEXCAST_HEARTBEAT=200ms",
        "FLEXCAST_HOLD=20",
        "FLEXCAST_PATH=user",
        "FLEXCAST_LOG=debug,/tmp/log",
        "FLEXCAST_PORT=7451",
        "FLEXCAST_SELF=192.0.2.1",
    ] {
        assert!(out.contains(variable), "{variable} in {out}");
    }
    for name in ["--refresh", "--heartbeat", "--hold", "--path", "--log"] {
        let (code, _, err) = ends(&[&map[..], &[name, "nonsense", "--check"]].concat());
        let words = format!("{name}=\"nonsense\": expected ");
        assert!(code == 2 && err.contains(&words), "{err}");
    }
}
