//! The command line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use coalescent::codec::Codec;
use coalescent::identity::{Identity, PublicKey};
use coalescent::wire::MAX_FRAME_CEILING;
use coalescent::{Address, Config, Wire};
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
Netcat for a mesh: stdin is broadcast to every peer, and what peers send goes to stdout.

meshcat [OPTIONS]
  -l, --listen <HOST:PORT>      accept peers here; port 0 takes a free one; ws://HOST:PORT/PATH accepts WebSockets
  -s, --seed <[ID@]HOST:PORT>   stay connected to this seed (repeatable); ws://HOST/PATH and wss://HOST/PATH are web servers
      --origin <ORIGIN>         with --listen ws://: pages of this origin may join, such as https://example.org (repeatable)
      --min-peers <N>           dial seeds while fewer than N are connected outbound [3]
      --max-peers <N>           never dial above N outbound [12]
      --max-inbound <N>         accept at most N peers [64]
      --network <NAME>          refuse peers of another network name [\"\"]
      --wire <native|lines|raw>                  [native]
      --codec <none|msgpack|json>                [none]
      --relay <none|tattletale|smartrelay>       [smartrelay]
      --reply <TYPE=TYPE>       with a codec: answer messages of the first type with one of the second, same body (repeatable)
      --max-frame <BYTES>       [1048576]
      --identity <FILE>         serve and dial with TLS, as the key in FILE (made, mode 0600, if missing)
      --allow <ID>              accept only this peer identity (repeatable)
      --allow-plaintext         allow addresses other than loopback without TLS
      --rate <N>                accept at most N frames a second from each peer (tower's own rate limit layer)
      --advertise <HOST:PORT>   tell peers that this node can be dialled here [the address that they see, with the port of --listen]
      --peers <N>               read stdin once N peers are connected [1]
      --book <FILE>             remember peers in FILE, ask peers for more, and dial them while fewer than --min-peers are connected
      --mdns                    find peers of the same network on this LAN
      --overlay                 stay connected to a few peers that an overlay chooses, for meshes of hundreds and thousands
      --sign                    sign the messages of stdin with the identity (needs a codec and --identity)
      --author <any|ID>         take, and pass on, only messages that are signed, by anybody or by this key (repeatable; needs a codec)
      --show-author             write `AUTHOR TYPE JSON`, with `-` for messages that nobody has signed
      --quiet                   write no frames to stdout
      --events                  events as JSON lines on stderr, in place of the log
      --once                    after stdin ends and all of it is flushed, leave (default: stay until a signal)
  -h, --help                    print this
  -V, --version                 print the version

With a codec, a line is TYPE JSON; the JSON may be left out. A TYPE that is empty, holds spaces, quotes or
control characters, or begins with a byte order mark is written as a JSON string. A byte order mark at the beginning of
stdin is passed over, but on the raw wire. The log goes to stderr; RUST_LOG says how much of it.

SIGINT, SIGTERM and SIGHUP: flush what is queued, for at most 10 s, and leave. A second one: leave at once.
Status 0: it left as it was asked to. 1: it could not listen, or, with --once, not all of stdin was written to a peer, or
something was dropped; a line on stderr says what. 2: the options cannot be used. 130: a second signal.
";

/// The command that the command line selects.
pub(crate) enum Command {
    Run(Box<Args>),
    Help,
    Version,
}

/// The validated options.
pub(crate) struct Args {
    pub(crate) listen: Option<String>,
    pub(crate) seeds: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) config: Config,
    pub(crate) codec: Option<Codec>,
    pub(crate) relay: Relay,
    pub(crate) replies: HashMap<String, String>,
    pub(crate) identity: Option<Identity>,
    pub(crate) allow: Vec<PublicKey>,
    pub(crate) rate: Option<u64>,
    pub(crate) book: Option<PathBuf>,
    pub(crate) mdns: bool,
    pub(crate) overlay: bool,
    pub(crate) authors: Authors,
    pub(crate) peers: usize,
    pub(crate) quiet: bool,
    pub(crate) events: bool,
    pub(crate) once: bool,
}

/// What is asked of the authors of messages.
#[derive(Default)]
pub(crate) struct Authors {
    /// Whether messages of stdin are signed.
    pub(crate) sign: bool,
    /// Whether only signed messages are taken.
    pub(crate) require: bool,
    /// The authors whose messages are taken; none if those of all are.
    pub(crate) allow: Vec<PublicKey>,
    /// Whether the author of each message is written.
    pub(crate) show: bool,
}

impl Authors {
    /// Returns whether anything is asked.
    pub(crate) fn matter(&self) -> bool {
        self.sign || self.require || self.show
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Relay {
    None,
    Tattletale,
    Smart,
}

/// Parses the command line. The error is one line that says what to do.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    // Errors may contain a file name, and a file name any character.
    read(args).map_err(|error| error.replace(char::is_control, "?"))
}

fn read(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_args(args);
    let mut options = Options::default();
    while let Some(name) = next_name(&mut parser)? {
        match &*name {
            "help" => return Ok(Command::Help),
            "version" => return Ok(Command::Version),
            option => options.set(Value {
                option,
                parser: &mut parser,
            })?,
        }
    }
    options.check()?;
    // Load the identity last, so that a rejected command line creates no key.
    let mut args = options.args;
    if let Some(file) = options.identity_file {
        let loaded = Identity::load_or_generate(&file);
        args.identity =
            Some(loaded.map_err(|error| format!("--identity: {}", coalescent::report(&error)))?);
    }
    Ok(Command::Run(Box::new(args)))
}

/// Returns the long name of the next option, or `None` at the end.
fn next_name(parser: &mut Parser) -> Result<Option<String>, String> {
    let arg = parser
        .next()
        .map_err(|error| format!("{error}; --help lists the options"))?;
    let Some(arg) = arg else {
        return Ok(None);
    };
    Ok(Some(match arg {
        Arg::Short('l') => "listen".to_owned(),
        Arg::Short('s') => "seed".to_owned(),
        Arg::Short('h') => "help".to_owned(),
        Arg::Short('V') => "version".to_owned(),
        Arg::Long(name) => name.to_owned(),
        other => {
            return Err(format!("{}; --help lists the options", other.unexpected()));
        }
    }))
}

/// The options read so far.
#[derive(Default)]
struct Options {
    args: Args,
    identity_file: Option<OsString>,
}

impl Options {
    /// Sets one option.
    fn set(&mut self, mut value: Value<'_>) -> Result<(), String> {
        let args = &mut self.args;
        match value.option {
            "listen" => args.listen = Some(listen(&value.text()?)?),
            "seed" => args.seeds.push(value.address()?.to_string()),
            "origin" => args.origins.push(value.text()?),
            "min-peers" => args.config.min_peers = value.number(0..=usize::MAX)?,
            "max-peers" => args.config.max_peers = value.number(0..=usize::MAX)?,
            "max-inbound" => args.config.max_inbound = value.number(0..=usize::MAX)?,
            "network" => args.config.network = value.text()?,
            "wire" => args.config.wire = value.parse::<Wire>()?,
            "codec" => args.codec = value.codec()?,
            "relay" => args.relay = value.relay()?,
            "reply" => args.add_reply(&value.text()?)?,
            "max-frame" => args.config.max_frame = value.number(1..=MAX_FRAME_CEILING)?,
            "identity" => self.identity_file = Some(value.os()?),
            "allow" => args.allow.push(value.parse()?),
            "rate" => args.rate = Some(value.number(1..=u64::MAX)?),
            "sign" => args.authors.sign = true,
            "author" => {
                args.authors.require = true;
                args.authors.allow.extend(value.author()?);
            }
            "show-author" => args.authors.show = true,
            "advertise" => args.config.advertise = Some(value.advertised()?),
            "book" => args.book = Some(value.file()?),
            "mdns" if cfg!(feature = "mdns") => args.mdns = true,
            "overlay" if cfg!(feature = "overlay") => args.overlay = true,
            feature @ ("mdns" | "overlay") => {
                return Err(format!(
                    "--{feature} is not built in: build with the feature {feature} (--features \
                     {feature})"
                ));
            }
            "peers" => args.peers = value.number(1..=usize::MAX)?,
            "allow-plaintext" => args.config.allow_plaintext = true,
            "quiet" => args.quiet = true,
            "events" => args.events = true,
            "once" => args.once = true,
            name => {
                return Err(format!(
                    "invalid option '--{}'; --help lists the options",
                    name.escape_debug()
                ));
            }
        }
        Ok(())
    }

    /// Checks that the options fit together.
    fn check(&self) -> Result<(), String> {
        let args = &self.args;
        let knows_somebody = !args.seeds.is_empty() || args.book.is_some() || args.mdns;
        if args.listen.is_none() && !knows_somebody {
            return Err(
                "nobody to talk to: give --listen HOST:PORT or --seed HOST:PORT".to_owned(),
            );
        }
        if args.overlay && args.config.wire != Wire::native() {
            return Err(format!(
                "--overlay is spoken on the native wire alone: leave out --wire {}",
                args.config.wire
            ));
        }
        if args.codec.is_none() && !args.replies.is_empty() {
            return Err(
                "--reply answers messages: give --codec msgpack or --codec json too".to_owned(),
            );
        }
        if args.codec.is_none() && args.authors.matter() {
            return Err(
                "--sign, --author and --show-author are about messages: give --codec msgpack or \
                 --codec json too"
                    .to_owned(),
            );
        }
        if self.identity_file.is_some() {
            return Ok(());
        }
        if args.authors.sign {
            return Err("--sign signs with a key: give --identity FILE too".to_owned());
        }
        if !args.allow.is_empty() {
            return Err(
                "--allow needs TLS, which proves identities: give --identity FILE too".to_owned(),
            );
        }
        let names_id = |seed: &&String| seed.parse().is_ok_and(|seed: Address| seed.id().is_some());
        match args.seeds.iter().find(names_id) {
            None => Ok(()),
            Some(seed) => Err(format!(
                "--seed {seed} names an identity, which only TLS proves: give --identity FILE too"
            )),
        }
    }
}

impl Args {
    fn add_reply(&mut self, text: &str) -> Result<(), String> {
        let (from, to) = reply(text).ok_or_else(|| {
            format!("--reply {text:?}: write TYPE=TYPE, for instance --reply ping=pong")
        })?;
        if self.replies.insert(from, to).is_some() {
            return Err(format!("--reply {text:?}: give one answer for each type"));
        }
        Ok(())
    }
}

impl Default for Args {
    fn default() -> Self {
        Self {
            listen: None,
            seeds: Vec::new(),
            origins: Vec::new(),
            config: Config::default(),
            codec: None,
            relay: Relay::Smart,
            replies: HashMap::new(),
            identity: None,
            allow: Vec::new(),
            rate: None,
            book: None,
            mdns: false,
            overlay: false,
            authors: Authors::default(),
            peers: 1,
            quiet: false,
            events: false,
            once: false,
        }
    }
}

/// An option whose value has not been read yet.
struct Value<'a> {
    option: &'a str,
    parser: &'a mut Parser,
}

impl Value<'_> {
    fn os(&mut self) -> Result<OsString, String> {
        let value = self.parser.value();
        value.map_err(|error| format!("{error}; --help lists the options"))
    }

    fn text(&mut self) -> Result<String, String> {
        let value = self.os()?.string();
        value.map_err(|_| format!("--{}: the value is not UTF-8", self.option))
    }

    fn parse<T: FromStr<Err: Display>>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse()
            .map_err(|error| format!("--{} {text:?}: {error}", self.option))
    }

    fn file(&mut self) -> Result<PathBuf, String> {
        let file = self.os()?;
        if file.is_empty() {
            return Err(format!("--{}: write the name of a file", self.option));
        }
        Ok(file.into())
    }

    /// Reads where others can dial this node: an address without an identity.
    fn advertised(&mut self) -> Result<String, String> {
        let address = self.address()?;
        if address.id().is_some() || address.scheme() != "tcp" {
            return Err(format!(
                "--{} {address}: write HOST:PORT, without an identity or a scheme",
                self.option
            ));
        }
        Ok(address.to_string())
    }

    /// Reads whose messages are taken: `None` for those of anybody.
    fn author(&mut self) -> Result<Option<PublicKey>, String> {
        let text = self.text()?;
        if text == "any" {
            return Ok(None);
        }
        let key = text.parse();
        key.map(Some)
            .map_err(|error| format!("--{} {text:?}: write any, or a key: {error}", self.option))
    }

    fn address(&mut self) -> Result<Address, String> {
        // The parser's error already contains the text.
        self.text()?
            .parse()
            .map_err(|error| format!("--{} {error}", self.option))
    }

    fn number<T: FromStr + PartialOrd + Display>(
        &mut self,
        range: RangeInclusive<T>,
    ) -> Result<T, String> {
        let text = self.text()?;
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!(
                    "--{} {text:?}: write a number from {least} to {most}",
                    self.option
                )
            })
    }

    fn codec(&mut self) -> Result<Option<Codec>, String> {
        self.one_of(&[
            ("none", None),
            ("msgpack", Some(Codec::msgpack())),
            ("json", Some(Codec::json())),
        ])
    }

    fn relay(&mut self) -> Result<Relay, String> {
        self.one_of(&[
            ("none", Relay::None),
            ("tattletale", Relay::Tattletale),
            ("smartrelay", Relay::Smart),
        ])
    }

    fn one_of<T: Clone>(&mut self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map(|(_, choice)| choice.clone()).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            format!(
                "--{} {text:?}: write one of {}",
                self.option,
                names.join(", ")
            )
        })
    }
}

/// Checks a `HOST:PORT`, or the like of another scheme, to listen on; port 0 is allowed and selects
/// any free port.
fn listen(text: &str) -> Result<String, String> {
    // `Address` is for dialling and rejects port 0; all other rules are the same.
    let place = text.find("://").map_or(0, |colon| colon + 3);
    let end = text[place..]
        .find('/')
        .map_or(text.len(), |slash| place + slash);
    let dialled = match text[..end].strip_suffix(":0") {
        Some(host) => format!("{host}:1{}", &text[end..]),
        None => text.to_owned(),
    };
    let address: Address = dialled
        .parse()
        .map_err(|error| format!("--listen {error}"))?;
    if address.id().is_some() {
        return Err(format!(
            "--listen {text:?}: write HOST:PORT; this node's own identity is given with --identity FILE"
        ));
    }
    Ok(text.to_owned())
}

/// Parses `TYPE=TYPE`, where each type is plain text or a JSON string.
fn reply(text: &str) -> Option<(String, String)> {
    let (from, rest) = crate::line::take_type(text, &['='])?;
    let (to, rest) = crate::line::take_type(rest.strip_prefix('=')?, &[])?;
    rest.is_empty().then_some((from, to))
}
