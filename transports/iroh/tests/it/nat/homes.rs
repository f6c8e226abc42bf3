//! Two homes behind routers of their own, and the people in them.

use std::ffi::OsStr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::support::{example, soon};

/// What the network below needs of a machine.
pub(super) const NEEDS: &str = "ip link && nft list ruleset";

/// Makes a public network and two homes, and runs a command in the public one. The first two
/// arguments say how the router of each home chooses ports, the rest are the command.
///
/// ```text
/// host1          router1                                router2          host2
/// 192.168.1.2 ── 192.168.1.1                        192.168.1.1 ── 192.168.1.2
///               203.0.113.11 ── 203.0.113.1 ── 203.0.113.12
/// ```
pub(super) const NETWORK: &str = r#"
set -e
mount -t tmpfs homes /run # where `ip netns` keeps names
mkdir /run/netns
ip link set lo up
ip link add public type bridge
ip addr add 203.0.113.1/24 dev public
ip link set public up
for home in 1 2; do
    ip netns add router$home
    ip netns add host$home
    ip link add public$home type veth peer name wan netns router$home
    ip link set public$home master public up
    ip -n router$home link add lan type veth peer name lan netns host$home
    ip -n router$home addr add 203.0.113.1$home/24 dev wan
    ip -n router$home addr add 192.168.1.1/24 dev lan
    ip -n host$home addr add 192.168.1.2/24 dev lan
    for name in router$home host$home; do ip -n $name link set lo up; ip -n $name link set lan up; done
    ip -n router$home link set wan up
    ip -n host$home route add default via 192.168.1.1
    ip netns exec router$home sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip netns exec router$home nft -f - <<RULES
table ip home {
    counter turned_away { }
    chain to_host {
        type nat hook prerouting priority dstnat
    }
    chain from_host {
        type nat hook postrouting priority srcnat
        oifname "wan" masquerade $1
    }
    chain pass_on {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        iifname "lan" accept
        ct status dnat accept
    }
    chain take_in {
        type filter hook input priority filter; policy drop
        ct state established,related accept
        iifname "lan" accept
        ip protocol udp ip saddr != 203.0.113.1 counter name turned_away
    }
}
RULES
    shift
done
exec "$@"
"#;

/// What a host sends leaves the router from the host's own port, wherever it goes, as RFC 4787 asks
/// of routers.
pub(super) const KEPT: &str = "";

/// What a host sends leaves the router from another port for each destination.
pub(super) const AT_RANDOM: &str = "fully-random";

/// The address of the public network itself, where a relay may be.
pub(super) const PUBLIC: &str = "203.0.113.1";

/// The address of a host in its home: the same in both.
pub(super) const PRIVATE: &str = "192.168.1.2";

/// How many bytes are said beside the text, so that a relay that carries them is known from one
/// that idles.
pub(super) const LONG: usize = 10_000;

/// The home of that number, 1 or 2.
#[derive(Clone, Copy)]
pub(super) struct Home(pub(super) u8);

impl Home {
    /// The address of its router in the public network.
    pub(super) fn address(self) -> String {
        format!("203.0.113.1{}", self.0)
    }

    /// Lets the packets for one port of the router in, to the host.
    pub(super) async fn forward(self, port: u16) {
        let rule = format!("add rule ip home to_host udp dport {port} dnat to {PRIVATE}");
        self.router(&["nft", &rule]).await;
    }

    /// Returns how many packets the router has turned away that came from the other home.
    pub(super) async fn turned_away(self) -> u64 {
        let counter = self
            .router(&["nft", "list", "counter", "ip", "home", "turned_away"])
            .await;
        let mut words = counter.split_whitespace();
        let packets = words.by_ref().find(|word| *word == "packets");
        let count = packets.and_then(|_| words.next()?.parse().ok());
        count.unwrap_or_else(|| panic!("not a counter: {counter}"))
    }

    async fn router(self, words: &[&str]) -> String {
        let name = format!("router{}", self.0);
        let output = Command::new("ip")
            .args(["netns", "exec", &name])
            .args(words)
            .output()
            .await
            .expect("a program");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts the example `chat` at the host, with these arguments after the name.
    pub(super) fn chat(self, name: &'static str, words: &[impl AsRef<OsStr>]) -> Person {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("ip")
            .args(["netns", "exec", &format!("host{}", self.0)])
            .arg(example("chat"))
            .arg(directory.path().join("key"))
            .arg(name)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a chat");
        Person {
            name,
            input: child.stdin.take().expect("its input"),
            heard: lines(name, child.stdout.take().expect("its output")),
            told: lines(name, child.stderr.take().expect("its errors")),
            _child: child,
            _directory: directory,
        }
    }
}

/// Hands on the lines of a program, and prints those that tell what happens.
fn lines(
    name: &'static str,
    from: impl AsyncRead + Send + Unpin + 'static,
) -> mpsc::UnboundedReceiver<String> {
    let (read, lines) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut from = BufReader::new(from).lines();
        while let Ok(Some(line)) = from.next_line().await {
            if line.starts_with("* ") {
                eprintln!("{name} {line}");
            }
            if read.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Somebody who chats.
pub(super) struct Person {
    name: &'static str,
    input: ChildStdin,
    /// What the others say.
    heard: mpsc::UnboundedReceiver<String>,
    /// What the program says.
    told: mpsc::UnboundedReceiver<String>,
    _child: Child,
    _directory: TempDir,
}

impl Person {
    /// Waits until the program has said something, and returns that.
    pub(super) async fn told(&mut self, what: &str) -> String {
        let told = async {
            loop {
                let line = self.told.recv().await;
                let line = line.unwrap_or_else(|| panic!("the chat of {} has ended", self.name));
                if line.contains(what) {
                    return line;
                }
            }
        };
        soon(what, told).await
    }

    /// Returns the address at which others find this one.
    pub(super) async fn address(&mut self) -> String {
        let line = self.told("others find you at ").await;
        line.rsplit(' ').next().expect("an address").to_owned()
    }

    /// Says something long to the other that begins with this, and waits until it is heard: the
    /// chat prints the beginning.
    pub(super) async fn say(&mut self, text: &str, to: &mut Self) {
        let line = format!("{text} {}\n", "and so on ".repeat(LONG / 10));
        let said = self.input.write_all(line.as_bytes()).await;
        said.expect("the chat reads its input");
        let heard = soon(text, to.heard.recv()).await.expect("a line");
        let right = format!("{}: {text} and so on", self.name);
        assert!(heard.starts_with(&right), "not {right}: {heard}");
    }

    /// Tells whether the program has said this, as far as what it says has been read.
    pub(super) fn was_told(&mut self, what: &str) -> bool {
        while let Ok(line) = self.told.try_recv() {
            if line.contains(what) {
                return true;
            }
        }
        false
    }
}
