//! The self-test on kernels that do, that refuse, that lie, and that cannot say.

use std::process::Command;
use std::thread;

use flexcast_testbed::World;

use super::*;
use crate::sandbox::answer_instead;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The self-test where setsockopt with this option answers `errno` in our stead.
fn with_option(option: i32, errno: i32) -> [Probe; 2] {
    let tested = thread::spawn(move || {
        answer_instead(libc::SYS_setsockopt, 2, option.cast_unsigned(), errno);
        FAMILIES.map(kernel_path)
    });
    tested.join().unwrap()
}

#[test]
fn this_kernel_strips_sorts_and_drops() {
    for family in FAMILIES {
        assert_eq!(kernel_path(family), Probe::Works);
    }
}

#[test]
fn a_kernel_that_refuses_a_step_is_told_by_the_step() {
    for (option, step) in [
        (libc::SO_REUSEPORT, "SO_REUSEPORT"),
        (libc::SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF"),
        (libc::SO_ATTACH_FILTER, "SO_ATTACH_FILTER"),
    ] {
        let reason = Reason {
            step,
            errno: Some(Errno::ENOPROTOOPT),
        };
        let expected = [Probe::DoesNot(reason); 2];
        assert_eq!(with_option(option, libc::ENOPROTOOPT), expected, "{step}");
        assert!(reason.to_string().starts_with(step));
    }
}

#[test]
fn a_kernel_that_says_yes_and_does_nothing_is_found_out() {
    for (option, step) in [
        (
            libc::SO_ATTACH_FILTER,
            "the filter does not keep the right datagram alone",
        ),
        (
            libc::SO_ATTACH_REUSEPORT_CBPF,
            "the selector does not sort control out",
        ),
    ] {
        for probe in with_option(option, 0) {
            // Without a selector the kernel deals by a hash: what is missed where
            // differs, that something is missed does not.
            let found_out = match probe {
                Probe::DoesNot(reason) => reason.errno.is_none(),
                Probe::Unknown(reason) => reason.step == "no datagram on loopback",
                Probe::Works => false,
            };
            assert!(found_out, "{step}: {probe:?}");
        }
    }
    let filter = with_option(libc::SO_ATTACH_FILTER, 0);
    assert!(filter.iter().all(|p| matches!(p, Probe::DoesNot(_))));
}

#[test]
fn without_loopback_the_answer_is_unknown() {
    let name = "selftest::tests::without_loopback_the_answer_is_unknown";
    if World::enter(name).is_none() {
        return;
    }
    assert_eq!(kernel_path(Family::V4), Probe::Works);
    let set = Command::new("ip")
        .args(["link", "set", "lo", "down"])
        .status();
    assert!(set.unwrap().success());
    for family in FAMILIES {
        assert!(
            matches!(kernel_path(family), Probe::Unknown(_)),
            "{family:?}"
        );
    }
}
