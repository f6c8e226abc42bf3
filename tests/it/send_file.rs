//! The example of a file that goes to one peer while the chat goes on.

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Process, example};

fn spawn(name: &str, dir: &Path, args: &[&str]) -> Process {
    let mut command = Command::new(example("send_file"));
    Process::spawn(name, command.current_dir(dir).args(args))
}

#[test]
fn a_file_goes_to_one_peer_while_the_chat_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let file: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(dir.path().join("file"), &file).expect("room on the disk");
    let mut receiver = spawn("receiver", dir.path(), &["127.0.0.1:0"]);
    let addr = receiver.wait_stdout("its address", |line| {
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    let mut sender = spawn("sender", dir.path(), &[&addr, "file"]);
    for number in 0..20 {
        sender.writeln(&format!("hello {number}"));
        receiver.wait_stdout("a line", |line| {
            line.ends_with(&format!(": hello {number}")).then_some(())
        });
        receiver.writeln(&format!("hi {number}"));
        sender.wait_stdout("a line", |line| {
            line.ends_with(&format!(": hi {number}")).then_some(())
        });
    }
    receiver.wait_stdout("the file", |line| {
        (line == "received-1: 20000000 bytes").then_some(())
    });
    sender.wait_stdout("its end", |line| {
        (line == "sent 20000000 bytes").then_some(())
    });
    for process in [&mut sender, &mut receiver] {
        process.close_stdin();
        assert!(process.wait_exit().success());
    }
    assert!(fs::read(dir.path().join("received-1")).expect("a file") == file);

    // Where nothing accepts files, that is said.
    let other = Process::spawn(
        "one_port",
        Command::new(example("one_port")).arg("127.0.0.1:0"),
    );
    let addr = other.wait_stdout("its address", |line| Some(line.to_owned()));
    let sender = spawn("sender", dir.path(), &[&addr, "file"]);
    sender.wait_stderr("why", |line| {
        line.starts_with("not sent: the peer has no streams")
            .then_some(())
    });
}
