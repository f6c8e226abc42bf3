//! The command line of `meshcat`, from outside: what it refuses, how, and what it says of itself.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Stdio;

use support::{Cat, DEADLINE, Process};

/// Runs a command that is refused, and returns the one line that it writes.
#[track_caller]
fn refused(options: &[impl AsRef<OsStr>]) -> String {
    let mut command = Cat::command("");
    let output = command.args(options).stdin(Stdio::null()).output();
    let output = output.expect("it runs");
    let shown: Vec<_> = options.iter().map(AsRef::as_ref).collect();
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{shown:?}: {text}");
    assert!(output.stdout.is_empty(), "{shown:?}");
    let line = text.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains(char::is_control), "{shown:?}: {text:?}");
    let said = line.strip_prefix("meshcat: ").expect("who says it");
    said.to_owned()
}

#[test]
fn an_option_that_cannot_be_used_is_refused_in_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (
            &[],
            "nobody to talk to: give --listen HOST:PORT or --seed HOST:PORT",
        ),
        (&["--listen"], "--listen needs a value; see --help"),
        (
            &["--sed", "a:1"],
            "unexpected argument '--sed': did you mean '--seed'? See --help",
        ),
        (
            &["--listne=a:1"],
            "unexpected argument '--listne': did you mean '--listen'? See --help",
        ),
        (
            &["--nothing"],
            "unexpected argument '--nothing'; see --help",
        ),
        (
            &["--a\nb\x1b"],
            r"unexpected argument '--a\nb\u{1b}'; see --help",
        ),
        (&["-x"], "unexpected argument '-x'; see --help"),
        (&["stray"], "unexpected argument 'stray'; see --help"),
        (&["-"], "unexpected argument '-'; see --help"),
        (
            &["--", "--once"],
            "unexpected argument '--once'; see --help",
        ),
        (
            &["--quiet=yes"],
            r#"--quiet takes no value: leave out "yes"; see --help"#,
        ),
        (
            &["--listen", "nowhere"],
            r#"--listen "nowhere": missing port; write HOST:PORT"#,
        ),
        (&["--listen", ""], r#"--listen "": "#),
        (&["--listen", "127.0.0.1:99999"], "65535"),
        (&["--listen", "999.1.1.1:0"], r#"--listen "999.1.1.1:0": "#),
        (
            &["--listen", "--once"],
            r#"--listen "--once": missing port; write HOST:PORT"#,
        ),
        (
            &["--seed", "127.0.0.1"],
            r#"--seed "127.0.0.1": missing port; write HOST:PORT"#,
        ),
        (&["--seed", "127.0.0.1:0"], "port"),
        (&["--seed", "unix:a"], "unix:/PATH"),
        (&["--seed", "own://a:1"], "scheme own"),
        (&["--seed", "unix:/a"], "scheme unix"),
        (&["--listen", "unix:/a"], "scheme unix"),
        (
            &["--wire", "telnet"],
            r#"--wire "telnet": no such wire: use native, lines or raw"#,
        ),
        (
            &["--codec", "xml"],
            r#"--codec "xml": write one of none, msgpack, json; see --help"#,
        ),
        (
            &["--codec", "jsn"],
            r#"--codec "jsn": write one of none, msgpack, json: did you mean 'json'? See --help"#,
        ),
        (&["--codec", ""], "--codec needs a value; see --help"),
        (
            &["--relay", "all"],
            r#"--relay "all": write one of none, tattletale, smartrelay; see"#,
        ),
        (
            &["--max-frame", "0"],
            r#"--max-frame "0": write a number from 1 to 1073741824"#,
        ),
        (
            &["--max-frame", "9999999999"],
            "--max-frame \"9999999999\": write a number from 1 to",
        ),
        (
            &["--min-peers", "-1"],
            r#"--min-peers "-1": write a number from 0 to"#,
        ),
        (
            &["--max-peers", "x"],
            r#"--max-peers "x": write a number from 0 to"#,
        ),
        (
            &["--max-inbound", ""],
            r#"--max-inbound "": write a number from 0 to"#,
        ),
        (&["--rate", "0"], r#"--rate "0": write a number from 1 to"#),
        (&["--peers=0"], r#"--peers "0": write a number from 1 to"#),
        (
            &["--codec", "json", "--reply", "ping"],
            r#"--reply "ping": write TYPE=TYPE, for instance --reply ping=pong"#,
        ),
        (&["--allow", "00"], r#"--allow "00": "#),
        (
            &["--author", "me"],
            r#"--author "me": write any, or a key: "#,
        ),
        (&["--identity", ""], "--identity needs a value; see --help"),
        (&["--book", ""], "--book needs a value; see --help"),
        (
            &["--advertise", "host"],
            r#"--advertise "host": missing port; write HOST:PORT"#,
        ),
        (
            &["--advertise", "unix:/a"],
            r#"--advertise "unix:/a": write HOST:PORT, without an identity or a scheme"#,
        ),
    ];
    for (options, part) in cases {
        let said = refused(options);
        assert!(said.contains(part), "{options:?}: {said}");
    }
}

#[test]
fn options_that_do_not_fit_together_are_refused_in_one_line() {
    let id = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let with_id = format!("{id}@127.0.0.1:1");
    let long = "x".repeat(300);
    let cases: &[(&[&str], &str)] = &[
        (
            &["--reply", "ping=pong"],
            "--reply answers messages: give --codec msgpack or",
        ),
        (
            &["--codec", "json", "--reply", "a=b", "--reply", "a=c"],
            "--reply: give one answer for each type",
        ),
        (
            &["--sign"],
            "are about messages: give --codec msgpack or --codec json too",
        ),
        (
            &["--show-author"],
            "are about messages: give --codec msgpack or --codec json too",
        ),
        (
            &["--author", "any"],
            "are about messages: give --codec msgpack or --codec json too",
        ),
        (
            &["--codec", "json", "--sign"],
            "--sign signs with a key: give --identity FILE too",
        ),
        (
            &["--allow", id],
            "--allow needs TLS, which proves identities: give --identity FILE too",
        ),
        (
            &["--seed", &with_id],
            "names an identity, which only TLS proves: give --identity FILE",
        ),
        (
            &["--listen", &with_id],
            "write HOST:PORT; this node's own identity",
        ),
        (
            &["--origin", "https://a.example"],
            "give --listen ws://HOST:PORT/PATH too",
        ),
        (&["--identity", "/dev/null/no"], "--identity: "),
        (&["--identity", "/nowhere/a\nb"], "directory"),
        (&["--network", &long], "network"),
    ];
    for (options, part) in cases {
        let said = refused(&[&["-l", "127.0.0.1:0"], *options].concat());
        assert!(said.contains(part), "{options:?}: {said}");
    }
    // Whoever listens elsewhere, or not at all, has no pages either.
    for options in [["--seed", "127.0.0.1:1"], ["--listen", "unix:/a"]] {
        let said = refused(&[&options[..], &["--origin", "https://a.example"]].concat());
        assert!(said.contains("--listen ws://"), "{options:?}: {said}");
    }
    let long = format!("--{}", "x".repeat(100_000));
    assert!(refused(&[long]).len() < 200);
}

#[test]
fn text_that_is_not_utf8_is_refused_and_a_file_of_such_a_name_is_not() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let said = refused(&[
        "-l".into(),
        "127.0.0.1:0".into(),
        "--network".into(),
        bytes(b"a\xff"),
    ]);
    assert_eq!(said, "--network a\u{fffd} is not UTF-8");
    let said = refused(&[bytes(b"--network=a\xff")]);
    assert_eq!(said, "--network=a\u{fffd} is not UTF-8");
    let said = refused(&[bytes(b"--\xff")]);
    assert!(said.starts_with("unexpected argument"), "{said}");

    let dir = tempfile::tempdir().expect("a directory");
    let book = dir.path().join(OsStr::from_bytes(b"\xff.book"));
    let mut command = Cat::command("--listen 127.0.0.1:0 --events --book");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut first = Cat::listen_command(command.arg(&book));
    let mut second = Cat::listen(&format!("--seed {}", first.addr()));
    second.connected();
    first.stop();
    second.stop();
    assert!(fs::metadata(book).expect("a book").is_file());
}

#[test]
fn options_have_all_their_forms() {
    let cases: &[&[&str]] = &[
        &["-l127.0.0.1:0"],
        &["-l=127.0.0.1:0"],
        &["--listen=127.0.0.1:0", "--"],
        &["-l", "127.0.0.1:0", "--network="],
        &["-l", "127.0.0.1:0", "--network", "", "--min-peers", "+0"],
        // The last of several counts, and flags may be given again.
        &[
            "-l",
            "192.0.2.1:1",
            "--quiet",
            "-l",
            "127.0.0.1:0",
            "--quiet",
        ],
    ];
    for options in cases {
        let mut command = Cat::command("--events");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut cat = Cat::listen_command(command.args(*options));
        assert!(cat.addr().starts_with("127.0.0.1:"), "{options:?}");
        cat.stop();
    }
    // What follows an option is its value, even if it looks like another.
    let mut first = Cat::listen("--network --once");
    let mut second = Cat::dial(&first.addr(), "--network=--once");
    first.connected();
    let mut other = Cat::start(&format!("--seed {}", first.addr()));
    other.error("");
    for cat in [&mut first, &mut second, &mut other] {
        cat.stop();
    }
}

/// Returns what an option prints.
fn printed(option: &str) -> String {
    let mut process = Process::spawn("meshcat", Cat::command("").arg(option));
    assert_eq!(process.wait_exit().code(), Some(0), "{option}");
    for stream in [process.stdout(), process.stderr()] {
        // Until its end.
        let _ = stream.wait_until(DEADLINE, |_| false);
    }
    assert!(process.stderr().all().is_empty(), "{option}");
    process.stdout().all().join("\n")
}

#[test]
fn help_groups_the_options_and_names_their_defaults() {
    let help = printed("--help");
    assert_eq!(help, printed("-h"));
    assert!(help.starts_with("Netcat for a mesh: "), "{help}");
    let groups = [
        "Peers",
        "Frames and messages",
        "Identities",
        "Stdin, stdout and stderr",
        "Options",
    ];
    for group in groups {
        assert!(help.contains(&format!("\n{group}:\n")), "{group}: {help}");
    }
    let options = [
        ("-l, --listen <HOST:PORT>", "port 0 takes a free one"),
        ("-s, --seed <[ID@]HOST:PORT>", "(repeatable)"),
        ("    --origin <ORIGIN>", "(repeatable)"),
        ("    --min-peers <N>", "[default: 3]"),
        ("    --max-peers <N>", "[default: 12]"),
        ("    --max-inbound <N>", "[default: 64]"),
        ("    --network <NAME>", r#"[default: ""]"#),
        ("    --wire <native|lines|raw>", "[default: native]"),
        ("    --codec <none|msgpack|json>", "[default: none]"),
        (
            "    --relay <none|tattletale|smartrelay>",
            "[default: smartrelay]",
        ),
        ("    --reply <TYPE=TYPE>", "(repeatable)"),
        ("    --max-frame <BYTES>", "[default: 1048576]"),
        ("    --identity <FILE>", "0600"),
        ("    --allow <ID>", "(repeatable)"),
        ("    --allow-plaintext", "loopback"),
        ("    --rate <N>", "each peer"),
        ("    --advertise <HOST:PORT>", "[default: "),
        ("    --peers <N>", "[default: 1]"),
        ("    --book <FILE>", "--min-peers"),
        ("    --mdns", "LAN"),
        ("    --overlay", "overlay"),
        ("    --sign", "--identity"),
        ("    --author <any|ID>", "repeatable"),
        ("    --show-author", "AUTHOR TYPE JSON"),
        ("    --quiet", "stdout"),
        ("    --events", "stderr"),
        ("    --once", "[default: "),
        ("-h, --help", ""),
        ("-V, --version", ""),
    ];
    for (option, part) in options {
        let mut lines = help.lines();
        let line = lines.find(|line| line.trim_start().starts_with(option.trim_start()));
        assert!(
            line.is_some_and(|line| line.contains(part)),
            "{option}: {help}"
        );
    }
    let listed = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'));
    assert_eq!(listed.count(), options.len(), "{help}");
    assert_eq!(
        printed("-V"),
        format!("meshcat {}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(printed("--version"), printed("-V"));
}
