//! Tests in a network of their own: this program runs itself again, inside of namespaces.

use std::env;
use std::ffi::OsStr;
use std::io::{Write, stderr};
use std::process::{Command, Output};

const CASE: &str = "COALESCENT_NETWORK_CASE";

/// Runs the ignored test `test` of this program in a network that `script` makes, a script of sh
/// whose arguments are `words` and then the command to run in the end. `case` is for [`case`].
///
/// Returns `None`, and says why, if this machine makes no networks, or `needs` fails in one.
pub(crate) fn run(
    needs: &str,
    script: &str,
    words: &[&OsStr],
    test: &str,
    case: &str,
) -> Option<Output> {
    let may = in_namespaces(needs).output();
    if !may.is_ok_and(|output| output.status.success()) {
        // Not by a macro, whose output is shown of tests that fail alone.
        let _ = writeln!(
            stderr(),
            "{case}: not checked: `unshare -Urnm {needs}` fails here"
        );
        return None;
    }
    let program = env::current_exe().expect("this program");
    let mut command = in_namespaces(script);
    command.arg("sh").args(words).arg(program);
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    Some(command.env(CASE, case).output().expect("a child"))
}

/// Who is root there finds root's programs.
fn in_namespaces(script: &str) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    let mut command = Command::new("unshare");
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.args(["-Urnm", "sh", "-c", script]);
    command
}

/// Returns, inside of such a network, which case is to run.
pub(crate) fn case() -> String {
    env::var(CASE).expect("a case")
}
