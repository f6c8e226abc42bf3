//! The examples, as programs.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, Lines};
use tokio::process::Command;

use crate::support;
use crate::support::soon;

/// An example, with its input and outputs at hand.
fn example(name: &str) -> Command {
    let mut command = Command::new(support::example(name));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

async fn line<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, with: &str) -> String {
    let found = soon(with, async {
        loop {
            let line = lines.next_line().await.expect("text").expect("a line");
            if line.contains(with) {
                return line;
            }
        }
    });
    found.await
}

#[tokio::test]
async fn a_file_arrives() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, copy) = (directory.path().join("file"), directory.path().join("copy"));
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number * 7 / 256) as u8)
        .collect();
    std::fs::write(&file, &content).expect("a file");
    let mut receiver = example("send_file").arg(&copy).spawn().expect("a receiver");
    let stdout = receiver.stdout.take().expect("its output");
    let address = line(&mut BufReader::new(stdout).lines(), "iroh:").await;
    let sender = example("send_file").arg(&file).arg(address).output();
    let sender = soon("the sender", sender).await.expect("an end");
    assert!(
        sender.status.success(),
        "{}",
        String::from_utf8_lossy(&sender.stderr)
    );
    assert!(
        soon("the receiver", receiver.wait())
            .await
            .expect("an end")
            .success()
    );
    assert!(std::fs::read(&copy).expect("the copy") == content);
}

#[tokio::test]
async fn two_people_chat() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = |name: &str| directory.path().join(name);
    let mut alice = example("chat")
        .arg(key("a"))
        .arg("alice")
        .spawn()
        .expect("alice");
    let mut told = BufReader::new(alice.stderr.take().expect("its errors")).lines();
    let address = line(&mut told, "others find you at ").await;
    let address = address.rsplit(' ').next().expect("an address").to_owned();
    let mut bob = example("chat");
    let mut bob = bob
        .arg(key("b"))
        .arg("bob")
        .arg(address)
        .spawn()
        .expect("bob");
    let mut heard = BufReader::new(bob.stdout.take().expect("its output")).lines();
    let mut said = alice.stdin.take().expect("its input");
    said.write_all(b"hello, bob\n")
        .await
        .expect("alice listens to her user");
    assert_eq!(line(&mut heard, "alice").await, "alice: hello, bob");
    drop(said);
    assert!(
        soon("alice's end", alice.wait())
            .await
            .expect("an end")
            .success()
    );
    let mut told = BufReader::new(bob.stderr.take().expect("its errors")).lines();
    line(&mut told, "left").await;
}

#[tokio::test]
async fn what_is_wrong_with_arguments_is_one_line() {
    for name in ["chat", "send_file"] {
        let help = example(name).arg("--help").output().await.expect("help");
        assert!(help.status.success() && !help.stdout.is_empty(), "{help:?}");
    }
    let cases = [
        ("chat", &["a.key"][..], "<NAME>"),
        (
            "chat",
            &["a.key", "a", "nowhere"],
            "\"nowhere\": missing port",
        ),
        (
            "chat",
            &["a.key", "a", "--relay-cert", "b"],
            "--relay <URL>",
        ),
        ("send_file", &[], "<FILE>"),
        ("send_file", &["a", "nowhere"], "\"nowhere\": missing port"),
    ];
    for (name, args, part) in cases {
        let output = example(name).args(args).output().await.expect("an end");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with(name) && text.contains(part), "{text}");
    }
}
