//! A chat between people who know each other's keys, wherever they are.
//!
//! ```text
//! cargo run --example chat -- alice.key alice --relay https://relay.example
//! cargo run --example chat -- bob.key bob --relay https://relay.example iroh:ID
//! ```
//!
//! The arguments are a key file, which is made if there is none, a name, and the addresses of
//! others; each node prints its own. Without a relay an address needs a hint where the other is, as
//! the printed one has it: `iroh:ID?addr=IP:PORT`. Each line of stdin is said.
//!
//! A relay that has signed its own certificate is trusted with `--relay-cert relay.pem`.

#[path = "support/command_line.rs"]
mod command_line;

use std::path::PathBuf;

use clap::Parser;
use coalescent::Address;
use coalescent::Router;
use coalescent::event::Escaped;
use coalescent::extract::Body;
use coalescent::prelude::*;
use coalescent_iroh::{Iroh, Quiet, load_or_generate};
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, RelayMode, RelayUrl};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// A chat between people who know each other's keys, wherever they are.
#[derive(Parser)]
struct Args {
    /// The file of this node's key, which is made if there is none
    key_file: PathBuf,
    /// Who you are to the others
    name: String,
    /// Addresses of others, such as iroh:ID
    others: Vec<Address>,
    /// A relay to be found at
    #[arg(long, value_name = "URL")]
    relay: Option<RelayUrl>,
    /// The certificate of a relay that has signed its own
    #[arg(long, value_name = "FILE", requires = "relay")]
    relay_cert: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Chat {
    name: String,
    text: String,
}

async fn hear(Body(chat): Body<Chat>) {
    println!("{}: {}", Escaped(&chat.name), Escaped(&chat.text));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Args = command_line::parse();
    let has_relay = args.relay.is_some();
    let trusted = match &args.relay_cert {
        Some(file) => CaTlsConfig::custom_roots([CertificateDer::from_pem_file(file)?]),
        None => CaTlsConfig::default(),
    };
    let endpoint = Endpoint::builder(Quiet)
        .secret_key(load_or_generate(&args.key_file)?)
        .relay_mode(
            args.relay
                .map_or(RelayMode::Disabled, |url| RelayMode::custom([url])),
        )
        .ca_tls_config(trusted);
    let iroh = Iroh::new(endpoint.bind().await?);
    let (endpoint, address) = (iroh.endpoint().clone(), iroh.address());
    if has_relay {
        endpoint.online().await; // from now on the others are looked for there
    }
    let mesh = App::new()
        .transport(iroh)
        .seeds(args.others.iter().map(Address::to_string))
        .with(SmartRelay::new())
        .with(Courier::new())
        .with(Router::new().route("chat", hear))
        .listen("iroh:")
        .await?;
    eprintln!("others find you at {address}{}", hints(&endpoint));
    tokio::spawn(tell(mesh.events()));

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(text) = lines.next_line().await? {
        mesh.connected(1).await?;
        let name = args.name.clone();
        let _ = mesh.broadcast("chat", &Chat { name, text }).await?;
    }
    mesh.shutdown().await;
    endpoint.close().await;
    Ok(())
}

/// Returns where this endpoint is, as hints in an address.
fn hints(endpoint: &Endpoint) -> String {
    let addr = endpoint.addr();
    let relays = addr.relay_urls().map(|url| format!("relay={url}"));
    let direct = addr.ip_addrs().map(|addr| format!("addr={addr}"));
    let hints: Vec<_> = relays
        .chain(direct)
        .take(coalescent_iroh::MAX_HINTS)
        .collect();
    match hints.is_empty() {
        true => String::new(),
        false => format!("?{}", hints.join("&")),
    }
}

/// Prints who comes and goes.
async fn tell(mut events: coalescent::Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::PeerConnected { peer } => eprintln!("* {} is here", peer.id()),
            Event::PeerDisconnected { peer, reason } => eprintln!("* {} left: {reason}", peer.id()),
            Event::Error { error, .. } => eprintln!("* {}", error.report()),
            _ => {}
        }
    }
}
