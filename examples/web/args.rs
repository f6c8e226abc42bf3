//! The command line.

use clap::Parser;
use coalescent::Address;

use crate::command_line::{listen, listen_tcp, number};

/// A mesh in a web server, with a chat page.
#[derive(Parser)]
#[command(after_help = "\
It prints its own address on stdout. The log goes to stderr; RUST_LOG says how much of it.")]
pub(crate) struct Args {
    /// Serve HTTP here, and make peers of what upgrades at /mesh; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = listen_tcp)]
    pub(crate) http: String,
    /// Accept peers here too, on the native wire
    #[arg(long, value_name = "HOST:PORT", value_parser = listen)]
    pub(crate) listen: Option<String>,
    /// Accept peers here too, on the lines wire: Node's, or nc
    #[arg(long, value_name = "HOST:PORT", value_parser = listen)]
    pub(crate) lines: Option<String>,
    /// Stay connected to this seed (repeatable)
    #[arg(short, long = "seed", value_name = "HOST:PORT")]
    pub(crate) seeds: Vec<Address>,
    /// The name this server is reached by (repeatable); IP addresses and localhost always are
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
    /// Keep at most N connections over HTTP, those that became peers too
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = number(1..=usize::MAX))]
    pub(crate) connections: usize,
    /// At most N of them from one address (IPv6: one /64); behind another server, --connections
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number(1..=usize::MAX))]
    pub(crate) per_address: usize,
    /// Allow addresses other than loopback
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
}
