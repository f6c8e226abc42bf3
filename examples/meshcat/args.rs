//! The command line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as Options, Parser, ValueEnum};
use coalescent::identity::{Identity, PublicKey};
use coalescent::wire::MAX_FRAME_CEILING;
use coalescent::{Address, Config, Wire, codec, report};

use crate::command_line::{self, Answer, listen, number};

const NOTES: &str = "\
With a codec, a line is TYPE JSON; the JSON may be left out. A TYPE that is empty, holds spaces, quotes or
control characters, or begins with a byte order mark is written as a JSON string. A byte order mark at the beginning of
stdin is passed over, but on the raw wire. The log goes to stderr; RUST_LOG says how much of it.

SIGINT, SIGTERM and SIGHUP: flush what is queued, for at most 10 s, and leave. A second one: leave at once.
Status 0: it left as it was asked to. 1: it could not listen, or, with --once, not all of stdin was written to a peer, or
something was dropped; a line on stderr says what. 2: the options cannot be used. 130: a second signal.";

/// Netcat for a mesh: stdin is broadcast to every peer, and what peers send goes to stdout.
#[derive(Parser)]
#[command(version, after_help = NOTES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) peers: Peers,
    #[command(flatten)]
    pub(crate) frames: Frames,
    #[command(flatten)]
    pub(crate) keys: Keys,
    #[command(flatten)]
    pub(crate) streams: Streams,
}

#[derive(Options)]
#[command(next_help_heading = "Peers")]
pub(crate) struct Peers {
    /// Accept peers here; port 0 takes a free one; ws://HOST:PORT/PATH accepts WebSockets
    #[arg(short, long, value_name = "HOST:PORT", value_parser = listen)]
    pub(crate) listen: Option<String>,
    /// Stay connected to this seed (repeatable); ws:// and wss://HOST/PATH are web servers
    #[arg(short, long = "seed", value_name = "[ID@]HOST:PORT")]
    pub(crate) seeds: Vec<Address>,
    /// With --listen ws://: pages of this origin may join, such as https://example.org (repeatable)
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub(crate) origins: Vec<String>,
    /// Dial seeds while fewer than N are connected outbound
    #[arg(long, value_name = "N", default_value_t = Config::default().min_peers)]
    #[arg(value_parser = number(0..=usize::MAX))]
    pub(crate) min_peers: usize,
    /// Never dial above N outbound
    #[arg(long, value_name = "N", default_value_t = Config::default().max_peers)]
    #[arg(value_parser = number(0..=usize::MAX))]
    pub(crate) max_peers: usize,
    /// Accept at most N peers
    #[arg(long, value_name = "N", default_value_t = Config::default().max_inbound)]
    #[arg(value_parser = number(0..=usize::MAX))]
    pub(crate) max_inbound: usize,
    /// Refuse peers of another network name [default: ""]
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) network: String,
    /// Tell peers to dial this node here [default: the address they see, the port of --listen]
    #[arg(long, value_name = "HOST:PORT", value_parser = advertised)]
    pub(crate) advertise: Option<String>,
    /// Remember peers in FILE, ask them for more, and dial those while --min-peers are not reached
    #[arg(long, value_name = "FILE")]
    pub(crate) book: Option<PathBuf>,
    /// Find peers of the same network on this LAN (with the feature mdns)
    #[arg(long)]
    pub(crate) mdns: bool,
    /// Stay connected to a few peers of a mesh of hundreds or thousands (with the feature overlay)
    #[arg(long)]
    pub(crate) overlay: bool,
}

#[derive(Options)]
#[command(next_help_heading = "Frames and messages")]
pub(crate) struct Frames {
    /// How frames stand on the socket; with lines, nc is a peer
    #[arg(long, value_name = "native|lines|raw", default_value_t = Wire::native())]
    pub(crate) wire: Wire,
    /// Whether frames are messages, and how they are encoded
    #[arg(long, value_name = "none|msgpack|json", default_value = "none")]
    #[arg(hide_possible_values = true)]
    pub(crate) codec: Codec,
    /// How frames are passed on; tattletale is for trees and stars
    #[arg(
        long,
        value_name = "none|tattletale|smartrelay",
        default_value = "smartrelay"
    )]
    #[arg(hide_possible_values = true)]
    pub(crate) relay: Relay,
    /// With a codec: answer one type with the other, same body (repeatable)
    #[arg(long = "reply", value_name = "TYPE=TYPE", value_parser = reply)]
    pub(crate) replies: Vec<(String, String)>,
    /// Neither send nor accept frames that are larger
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_frame)]
    #[arg(value_parser = number(1..=MAX_FRAME_CEILING))]
    pub(crate) max_frame: usize,
    /// Accept at most N frames a second from each peer (tower's own rate limit layer)
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX))]
    pub(crate) rate: Option<u64>,
}

#[derive(Options)]
#[command(next_help_heading = "Identities")]
pub(crate) struct Keys {
    /// Serve and dial with TLS, as the key in FILE (made, mode 0600, if missing)
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The key in that file.
    #[arg(skip)]
    pub(crate) own: Option<Identity>,
    /// Accept only this peer identity (repeatable)
    #[arg(long, value_name = "ID")]
    pub(crate) allow: Vec<PublicKey>,
    /// Allow addresses other than loopback without TLS
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
    /// Sign the messages of stdin with the identity (needs a codec and --identity)
    #[arg(long)]
    pub(crate) sign: bool,
    /// Take and pass on only messages signed by anybody, or by this key (repeatable; needs a codec)
    #[arg(long = "author", value_name = "any|ID", value_parser = author)]
    pub(crate) authors: Vec<Author>,
    /// Write `AUTHOR TYPE JSON`, with `-` for messages that nobody has signed
    #[arg(long)]
    pub(crate) show_author: bool,
}

#[derive(Options)]
#[command(next_help_heading = "Stdin, stdout and stderr")]
pub(crate) struct Streams {
    /// Read stdin once N peers are connected
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number(1..=usize::MAX))]
    pub(crate) peers: usize,
    /// Write no frames to stdout
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Events as JSON lines on stderr, in place of the log
    #[arg(long)]
    pub(crate) events: bool,
    /// After stdin ends and all of it is flushed, leave [default: stay until a signal]
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Codec {
    None,
    Msgpack,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Relay {
    None,
    Tattletale,
    #[value(name = "smartrelay")]
    Smart,
}

/// Whose messages are taken.
#[derive(Clone)]
pub(crate) enum Author {
    Any,
    Key(PublicKey),
}

/// Parses the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, Answer> {
    let mut args: Args = command_line::read(args)?;
    args.check().map_err(Answer::Refusal)?;
    // Load the identity last, so that a rejected command line creates no key.
    if let Some(file) = &args.keys.identity {
        let loaded = Identity::load_or_generate(file);
        let loaded =
            loaded.map_err(|error| Answer::Refusal(format!("--identity: {}", report(&error))));
        args.keys.own = Some(loaded?);
    }
    Ok(args)
}

impl Args {
    /// Checks that the options fit together.
    fn check(&self) -> Result<(), String> {
        let Self {
            peers,
            frames,
            keys,
            ..
        } = self;
        let seed = |picked: fn(&Address) -> bool| peers.seeds.iter().find(|seed| picked(seed));
        let missing = |feature: &str, option: &str| {
            Err(format!(
                "{option} is not built in: build with the feature {feature} (--features {feature})"
            ))
        };
        if peers.mdns && !cfg!(feature = "mdns") {
            return missing("mdns", "--mdns");
        }
        if peers.overlay && !cfg!(feature = "overlay") {
            return missing("overlay", "--overlay");
        }
        let wss = seed(|seed| seed.scheme() == "wss");
        if let Some(seed) = wss.filter(|_| !cfg!(feature = "wss")) {
            return missing("wss", &format!("--seed {seed}"));
        }
        let knows_somebody = !peers.seeds.is_empty() || peers.book.is_some() || peers.mdns;
        let listen = peers.listen.as_deref();
        let with_codec = !matches!(frames.codec, Codec::None);
        let with_key = keys.identity.is_some();
        let refused = if listen.is_none() && !knows_somebody {
            "nobody to talk to: give --listen HOST:PORT or --seed HOST:PORT"
        } else if !peers.origins.is_empty() && !listen.is_some_and(takes_pages) {
            "--origin is about pages, which join by WebSockets: give --listen ws://HOST:PORT/PATH too"
        } else if peers.overlay && frames.wire != Wire::native() {
            return Err(format!(
                "--overlay is spoken on the native wire alone: leave out --wire {}",
                frames.wire
            ));
        } else if !with_codec && !frames.replies.is_empty() {
            "--reply answers messages: give --codec msgpack or --codec json too"
        } else if !with_codec && keys.are_for_authors() {
            "--sign, --author and --show-author are about messages: give --codec msgpack or \
             --codec json too"
        } else if self.replies().len() < frames.replies.len() {
            "--reply: give one answer for each type"
        } else if keys.sign && !with_key {
            "--sign signs with a key: give --identity FILE too"
        } else if !keys.allow.is_empty() && !with_key {
            "--allow needs TLS, which proves identities: give --identity FILE too"
        } else if let Some(seed) = seed(|seed| seed.id().is_some()).filter(|_| !with_key) {
            return Err(format!(
                "--seed {seed} names an identity, which only TLS proves: give --identity FILE too"
            ));
        } else {
            return Ok(());
        };
        Err(refused.to_owned())
    }

    /// Returns what the mesh is configured with.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.min_peers = self.peers.min_peers;
        config.max_peers = self.peers.max_peers;
        config.max_inbound = self.peers.max_inbound;
        config.network.clone_from(&self.peers.network);
        config.advertise.clone_from(&self.peers.advertise);
        config.wire = self.frames.wire.clone();
        config.max_frame = self.frames.max_frame;
        config.allow_plaintext = self.keys.allow_plaintext;
        config
    }

    /// Returns which type answers which.
    pub(crate) fn replies(&self) -> HashMap<String, String> {
        self.frames.replies.iter().cloned().collect()
    }
}

impl Keys {
    /// Returns whether anything is asked of the authors of messages.
    pub(crate) fn are_for_authors(&self) -> bool {
        self.sign || !self.authors.is_empty() || self.show_author
    }
}

impl Codec {
    /// Returns what encodes messages; `None` if frames are none.
    pub(crate) fn get(self) -> Option<codec::Codec> {
        match self {
            Self::None => None,
            Self::Msgpack => Some(codec::Codec::msgpack()),
            Self::Json => Some(codec::Codec::json()),
        }
    }
}

/// Returns whether pages can join what listens here.
fn takes_pages(at: &str) -> bool {
    let scheme = at.split("://").next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("ws")
}

/// Parses where others can dial this node: an address without an identity.
fn advertised(text: &str) -> Result<String, String> {
    let address: Address = text.parse().map_err(|error| format!("{error}"))?;
    if address.id().is_some() || address.scheme() != "tcp" {
        return Err("write HOST:PORT, without an identity or a scheme".to_owned());
    }
    Ok(address.to_string())
}

/// Parses whose messages are taken.
fn author(text: &str) -> Result<Author, String> {
    if text == "any" {
        return Ok(Author::Any);
    }
    let key = text.parse();
    key.map(Author::Key)
        .map_err(|error| format!("write any, or a key: {error}"))
}

/// Parses `TYPE=TYPE`, where each type is plain text or a JSON string.
fn reply(text: &str) -> Result<(String, String), &'static str> {
    let types = || {
        let (from, rest) = crate::line::take_type(text, &['='])?;
        let (to, rest) = crate::line::take_type(rest.strip_prefix('=')?, &[])?;
        rest.is_empty().then_some((from, to))
    };
    types().ok_or("write TYPE=TYPE, for instance --reply ping=pong")
}
