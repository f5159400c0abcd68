//! The program itself.

use std::process::Command;

#[test]
fn the_program_names_its_attacks_and_refuses_others() {
    let program = env!("CARGO_BIN_EXE_supernode-hostile");
    let output = Command::new(program).arg("list").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.lines().count() > 20, "{text}");
    let output =
        Command::new(program).args(["run", "--relay", "/nowhere", "--only", "no-such"]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--only no-such"), "{text}");
}
