//! The command line's promises that need no server: exit codes and errors that say what was expected.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

use std::process::{Command, Output};

fn slotstorm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slotstorm")).args(args).output().expect("the binary starts")
}

fn refused(args: &[&str]) -> String {
    let output = slotstorm(args);
    assert_eq!(output.status.code(), Some(254), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bad_usage_is_254_and_says_what_was_expected() {
    assert!(refused(&["run", "--no-such-flag"]).contains("--no-such-flag"));
    assert!(refused(&["run", "--preset", "tornado"]).contains("failover"));
    assert!(refused(&["run", "--expect", "maybe"]).contains("strict"));
    assert!(refused(&["run", "--workload", "bank"]).contains("append"));
    assert!(refused(&["run", "--masters", "0"]).contains("masters must lie between"));
    assert!(refused(&["run", "--list-faults", "autumn"]).contains("half-close"));
    assert!(refused(&["run", "--require", "kill on boss"]).contains("voter"));
    assert!(refused(&["run", "--set", "appendonly"]).contains("DIRECTIVE=VALUE"));
    assert!(refused(&["run", "--set", "port=7000"]).contains("port"));
    assert!(refused(&["run", "--sut", "/no/such/server"]).contains("/no/such/server"));
    assert!(refused(&["run", "/no/such/storm.toml"]).contains("/no/such/storm.toml"));
    assert!(refused(&["check", "/no/such/run"]).contains("run.json"));
    assert!(refused(&[]).contains("Usage"));
}

#[test]
fn a_bad_storm_file_is_254_and_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storm.toml");
    std::fs::write(&path, "duration_s = 10\n\n[[fault]]\nat = 1\nkind = \"kill\"\ntarget = \"the boss\"\n")
        .unwrap();
    let error = refused(&["run", path.to_str().unwrap()]);
    assert!(
        error.contains("storm.toml") && error.contains("line 6") && error.contains("random master"),
        "{error}"
    );
}

#[test]
fn help_and_lists_are_no_errors() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["run", "--list-presets"],
        &["run", "--list-faults"],
        &["run", "--list-faults", "roll-back-config"],
        &["--version"],
    ] {
        let output = slotstorm(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}
