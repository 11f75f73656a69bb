//! The program, as people use it where no driver is loaded.
#![cfg(target_os = "linux")]

use std::process::{Command, Output};

fn supctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_supctl")).args(arguments).output().expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_names_every_command_and_its_options() {
    let output = supctl(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "info", "gip", "selftest", "bench", "load", "hold", "cost", "--count", "--filter", "--short",
        "--image", "--device",
    ] {
        assert!(out(&output).contains(word), "{word}");
    }
}

#[test]
fn every_command_says_that_the_driver_is_not_loaded() {
    for command in ["info", "gip", "selftest", "bench", "cost", "hold"] {
        let output = supctl(&[command, "--device", "/dev/no-such-driver"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let message = err(&output);
        assert!(message.contains("/dev/no-such-driver doesn't exist"), "{command}: {message}");
    }
}

#[test]
fn a_device_that_is_no_driver_is_recognised() {
    let output = supctl(&["info", "--device", "/dev/null"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("COOKIE: refused by the system"), "{}", err(&output));
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    let wrong: &[&[&str]] = &[
        &[],
        &["dance"],
        &["info", "--typo"],
        &["gip", "--count"],
        &["gip", "--count", "many"],
        &["load"],
        &["selftest", "--filter", "no case is called like this"],
    ];
    for arguments in wrong {
        let output = supctl(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("--help"), "{arguments:?}");
    }
}

#[test]
fn cases_can_be_listed_without_a_driver() {
    let all = out(&supctl(&["selftest", "--list"])).lines().count();
    let some = out(&supctl(&["selftest", "--list", "--filter", "gip:"])).lines().count();
    assert!(all >= 80 && some > 0 && some < all, "{some} of {all}");
}

#[test]
fn an_image_that_does_not_exist_is_named() {
    let output = supctl(&["load", "/no/such/image.o"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("/no/such/image.o: No such file"), "{}", err(&output));
}
