//! Settings from variables and from the configuration file.

use std::time::Duration;

use flexcast_rules::{ConfigFault, ReceivePath, Settings, SettingsError};

fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::from_variables(variables.iter().copied())
}

#[test]
fn nothing_given_means_the_defaults() {
    let settings = read(&[("HOME", "/root"), ("FLEXCAST_BIN", "x")]).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!((settings.port(), settings.hold().as_secs()), (7450, 35));
    assert_eq!(
        (settings.refresh().as_secs(), settings.heartbeat().as_secs()),
        (10, 1)
    );
    assert!(settings.log().is_none() && settings.path().is_none());
}

#[test]
fn every_variable_is_read_and_written_back() {
    let given = [
        ("FLEXCAST_MAP", "239.1.1.1=10.0.0.5 239.1.1.2"),
        ("FLEXCAST_SELF", "10.0.0.5+2001:db8::1"),
        ("FLEXCAST_PORT", "7451"),
        ("FLEXCAST_REFRESH", "500ms"),
        ("FLEXCAST_HEARTBEAT", "100ms"),
        ("FLEXCAST_HOLD", "2"),
        ("FLEXCAST_LOG", "debug,/tmp/a,b"),
        ("FLEXCAST_PATH", "user"),
    ];
    let settings = read(&given).unwrap();
    assert_eq!(settings.refresh(), Duration::from_millis(500));
    assert_eq!(settings.path(), Some(ReceivePath::User));
    let written: Vec<(&str, String)> = settings.to_variables();
    let given: Vec<(&str, String)> = given.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
    assert_eq!(written, given);
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest() {
    let error = read(&[("FLEXCAST_MPA", "x")]).unwrap_err();
    let nearest = Some("FLEXCAST_MAP".to_owned());
    let name = "FLEXCAST_MPA".to_owned();
    assert_eq!(error, SettingsError::UnknownVariable { name, nearest });
    let error = read(&[("FLEXCAST_BANANAS", "x")]).unwrap_err();
    assert!(matches!(
        error,
        SettingsError::UnknownVariable { nearest: None, .. }
    ));
}

#[test]
fn values_out_of_range_are_refused() {
    for (name, good, bad) in [
        ("FLEXCAST_PORT", "65535", "0"),
        ("FLEXCAST_PORT", "1", "65536"),
        ("FLEXCAST_REFRESH", "100ms", "99ms"),
        ("FLEXCAST_REFRESH", "29s", "61s"),
        ("FLEXCAST_HEARTBEAT", "100ms", "99ms"),
        ("FLEXCAST_HEARTBEAT", "10s", "10001ms"),
        ("FLEXCAST_HOLD", "60s", "61s"),
        ("FLEXCAST_HOLD", "13s", "999ms"),
        ("FLEXCAST_LOG", "warn", "wran"),
        ("FLEXCAST_LOG", "warn,f", "warn,"),
        ("FLEXCAST_PATH", "kernel", "kernal"),
        ("FLEXCAST_SELF", "10.0.0.5,[::1]", "239.1.1.1"),
        ("FLEXCAST_CONFIG", "/etc/f", ""),
    ] {
        assert!(read(&[(name, good)]).is_ok(), "{name}={good}");
        let error = read(&[(name, bad)]).unwrap_err();
        assert!(
            matches!(error, SettingsError::Value { .. }),
            "{name}={bad}: {error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = read(&[("FLEXCAST_PATH", "kernal")])
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("(did you mean kernel?)"), "{error}");
    assert!(matches!(
        read(&[("FLEXCAST_MAP", "x!")]),
        Err(SettingsError::Rule(_))
    ));
}

#[test]
fn a_hold_shorter_than_its_refresh_is_refused() {
    let error = read(&[("FLEXCAST_HOLD", "12s")]).unwrap_err();
    assert!(matches!(error, SettingsError::HoldTooShort { .. }));
    assert!(read(&[("FLEXCAST_HOLD", "12s"), ("FLEXCAST_REFRESH", "5s")]).is_ok());
}

#[test]
fn the_file_fills_in_what_no_variable_gave() {
    let text = "map = [\"239.1.1.2\"]\nself = [\"10.0.0.7\"]\nport = 9000\nrefresh = 1.5\n\
                heartbeat = \"200ms\"\nhold = 20\nlog = \"info\"\npath = \"kernel\"\n";
    let settings = read(&[("FLEXCAST_MAP", "239.1.1.1"), ("FLEXCAST_PORT", "8000")]).unwrap();
    let settings = settings.with_config(text).unwrap();
    assert_eq!(settings.map().to_string(), "239.1.1.1 239.1.1.2");
    assert_eq!((settings.port(), settings.hold().as_secs()), (8000, 20));
    assert_eq!(settings.refresh(), Duration::from_millis(1500));
    assert_eq!(settings.own_addresses().len(), 1);
}

#[test]
fn faults_in_the_file_name_their_line() {
    let fault = |text: &str| match Settings::default().with_config(text) {
        Err(SettingsError::Config(error)) => (error.line, error.fault),
        other => panic!("{text}: {other:?}"),
    };
    let unknown = |key: &str, near: &str| ConfigFault::UnknownKey {
        key: key.to_owned(),
        nearest: Some(near.to_owned()),
    };
    assert_eq!(fault("\nprot = 1\n"), (2, unknown("prot", "port")));
    assert!(matches!(fault("a = ["), (1, ConfigFault::Syntax(_))));
    assert!(matches!(
        fault("\n\nport = true"),
        (3, ConfigFault::Type { .. })
    ));
    assert!(matches!(
        fault("map = \"x\""),
        (1, ConfigFault::Type { .. })
    ));
    assert!(matches!(fault("port = 0"), (1, ConfigFault::Value(_))));
    let (line, rule) = fault("map = [\n\"239.1.1.1\",\n\"239.1.1.1,rol=off\"]");
    assert_eq!(line, 3);
    assert!(matches!(rule, ConfigFault::Rule { number: 2, error } if error.position == 10));
}
