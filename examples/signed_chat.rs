//! A chat whose names belong to keys: whoever said a name first keeps it, over all relays.
//!
//! ```text
//! cargo run --example signed_chat -- alice.key alice 127.0.0.1:1337
//! cargo run --example signed_chat -- bob.key bob 127.0.0.1:1338 127.0.0.1:1337
//! ```
//!
//! Each line of stdin is said. Run it again with another key and the same name: everybody sees that
//! it is somebody else.

#[path = "support/command_line.rs"]
mod command_line;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use coalescent::event::Escaped;
use coalescent::extract::{Author, Body, State};
use coalescent::identity::{Identity, PublicKey};
use coalescent::prelude::*;
use coalescent::{Address, Error, Router, Signed, report};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// A chat whose names belong to keys. Each line of stdin is said.
#[derive(Parser)]
struct Args {
    /// The file of this node's key, which is made if there is none
    key: PathBuf,
    /// The name that belongs to the key
    name: String,
    /// Accept peers here, as HOST:PORT
    #[arg(value_parser = command_line::listen)]
    listen: String,
    /// Stay connected to these, as [ID@]HOST:PORT
    #[arg(value_name = "SEED")]
    seeds: Vec<Address>,
}

/// The body of a `chat` message.
#[derive(Serialize, Deserialize)]
struct Chat {
    name: String,
    text: String,
}

/// How many names are remembered; everybody can make up names and keys.
const NAMES_MAX: usize = 10_000;

/// Who said a name first.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<String, PublicKey>>>);

impl Names {
    /// Returns whether the name belongs to the key, which gets it if nobody has it yet.
    fn belongs(&self, name: &str, key: &PublicKey) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = names.get(name) {
            return owner == key;
        }
        if names.len() < NAMES_MAX {
            names.insert(name.to_owned(), *key);
        }
        true
    }
}

/// Prints what somebody says. There is an author: `Signed` lets nothing else through.
async fn hear(author: Author, State(names): State<Names>, Body(chat): Body<Chat>) {
    let key = author.key().to_string();
    let (name, text) = (Escaped(&chat.name), Escaped(&chat.text));
    if names.belongs(&chat.name, author.key()) {
        println!("{name}: {text}");
    } else {
        println!("{} (not the {name} you know): {text}", &key[..8]);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Args = command_line::parse();
    let identity = Identity::load_or_generate(&args.key);
    let identity = identity.unwrap_or_else(|error| command_line::refuse(report(&error)));
    let names = Names::default();
    names.belongs(&args.name, &identity.id());
    let listening = App::new()
        .identity(identity.clone())
        .seeds(args.seeds.iter().map(Address::to_string))
        .with(Courier::new())
        // Checked before it is relayed, so that no node passes on what somebody made up.
        .with(Signed::new().require().by(identity))
        .with(SmartRelay::new())
        .with(Router::new().route("chat", hear).with_state(names))
        .listen(args.listen)
        .await;
    let mesh = command_line::usable(listening)?;
    for addr in mesh.local_addrs() {
        eprintln!("listening on {addr}");
    }
    say(&mesh, &args.name).await?;
    mesh.shutdown().await;
    Ok(())
}

/// Says each line of stdin.
async fn say(mesh: &Mesh, name: &str) -> Result<(), Error> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let name = name.to_owned();
        let _ = mesh.broadcast("chat", &Chat { name, text }).await?;
    }
    Ok(())
}
