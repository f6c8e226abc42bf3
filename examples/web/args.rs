//! The command line.

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
A mesh in a web server, with a chat page.

web --http <HOST:PORT> [OPTIONS]
      --http <HOST:PORT>     serve HTTP here, and make peers of what upgrades at /mesh; port 0 takes a free one
      --listen <HOST:PORT>   accept peers here too, on the native wire
      --lines <HOST:PORT>    accept peers here too, on the lines wire: Node's, or nc
  -s, --seed <HOST:PORT>     stay connected to this seed (repeatable)
      --host <NAME>          the name this server is reached by (repeatable); IP addresses and localhost always are
      --connections <N>      keep at most N connections over HTTP, those that became peers too [512]
      --per-address <N>      at most N of them from one address (IPv6: one /64) [64]; where a server in front of this one
                             makes all of them, as many as --connections
      --allow-plaintext      allow addresses other than loopback
  -h, --help                 print this

It prints its own address on stdout. The log goes to stderr; RUST_LOG says how much of it.
";

/// Default limit of HTTP connections.
const CONNECTIONS: usize = 512;

/// Default limit of HTTP connections from one address.
const PER_ADDRESS: usize = 64;

/// The options.
pub(crate) struct Args {
    pub(crate) http: String,
    pub(crate) listen: Option<String>,
    pub(crate) lines: Option<String>,
    pub(crate) seeds: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    pub(crate) allow_plaintext: bool,
}

/// Parses the command line; returns `None` if help is requested. The error is one line that says
/// what to do.
pub(crate) fn parse() -> Result<Option<Args>, String> {
    read().map_err(|error| format!("{error}; --help lists the options"))
}

fn read() -> Result<Option<Args>, lexopt::Error> {
    let mut parser = Parser::from_env();
    let mut args = Args {
        http: String::new(),
        listen: None,
        lines: None,
        seeds: Vec::new(),
        hosts: Vec::new(),
        connections: CONNECTIONS,
        per_address: PER_ADDRESS,
        allow_plaintext: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("http") => args.http = parser.value()?.string()?,
            Arg::Long("listen") => args.listen = Some(parser.value()?.string()?),
            Arg::Long("lines") => args.lines = Some(parser.value()?.string()?),
            Arg::Short('s') | Arg::Long("seed") => args.seeds.push(parser.value()?.string()?),
            Arg::Long("host") => args.hosts.push(parser.value()?.string()?),
            Arg::Long("connections") => args.connections = parser.value()?.parse()?,
            Arg::Long("per-address") => args.per_address = parser.value()?.parse()?,
            Arg::Long("allow-plaintext") => args.allow_plaintext = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if args.http.is_empty() {
        return Err("where to serve HTTP is missing: give --http 127.0.0.1:8080".into());
    }
    Ok(Some(args))
}
