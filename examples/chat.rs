//! A chat between all nodes of a mesh, with line editing.
//!
//! ```text
//! cargo run --example chat -- --name alice --listen 127.0.0.1:1337
//! cargo run --example chat -- --name bob --seed 127.0.0.1:1337
//! ```
//!
//! Messages are JSON and have the type `chat`. With `--wire lines`, programs that are not written
//! in Rust can join too. If stdin is not a terminal, its lines are sent one after another and the
//! program ends.

#[path = "support/command_line.rs"]
mod command_line;

use std::io::{BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use coalescent::event::Escaped;
use coalescent::extract::{Body, State};
use coalescent::prelude::*;
use coalescent::{Address, Router};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A chat between all nodes of a mesh, with line editing.
#[derive(Parser)]
struct Args {
    /// The name that stands before what is said here
    #[arg(long, default_value = "someone")]
    name: String,
    /// Accept peers here
    #[arg(long, value_name = "HOST:PORT", value_parser = command_line::listen)]
    listen: Option<String>,
    /// Stay connected to this seed (repeatable)
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<Address>,
    /// How messages stand on the socket; with lines, programs in any language can join
    #[arg(long, value_name = "native|lines|raw", default_value_t = Wire::native())]
    wire: Wire,
}

/// The body of a `chat` message.
#[derive(Serialize, Deserialize)]
struct Chat {
    handle: String,
    text: String,
}

/// Prints lines above the input line.
#[derive(Clone)]
struct Screen(Arc<Mutex<Option<Box<dyn ExternalPrinter + Send>>>>);

impl Screen {
    fn show(&self, line: &str) {
        let line = format!("{line}\n");
        // Ignore errors: there is nowhere left to report that the terminal is gone.
        let _ = match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(printer) => printer.print(line).map_err(|_| ()),
            None => std::io::stdout().write_all(line.as_bytes()).map_err(|_| ()),
        };
    }
}

/// Prints a message of another node. Control characters are escaped, so that the text cannot
/// manipulate the terminal.
async fn hear(State(screen): State<Screen>, Body(chat): Body<Chat>) {
    let text: String = chat.text.chars().take(1000).collect();
    screen.show(&format!("{}: {}", Escaped(&chat.handle), plain(&text)));
}

/// Escapes a text of any length; [`Escaped`] alone truncates long text.
fn plain(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let chars: Vec<char> = word.chars().collect();
        let pieces = chars.chunks(4).map(|piece| {
            let piece: String = piece.iter().collect();
            Escaped(&piece).to_string()
        });
        pieces.collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Args = command_line::parse();
    let (lines, screen) = keyboard()?;
    let started = App::new()
        .seeds(args.seeds.iter().map(Address::to_string))
        .wire(args.wire)
        .with(SmartRelay::new())
        .with(Courier::json())
        .with(Router::new().route("chat", hear).with_state(screen.clone()))
        .start()
        .await;
    let mesh = command_line::usable(started)?;
    let watched = tell(&mesh, &screen);
    if let Some(addr) = args.listen {
        command_line::usable(mesh.listen(&addr).await)?;
    }
    talk(&mesh, &args.name, lines).await?;
    mesh.shutdown().await;
    watched.await?;
    Ok(())
}

/// Prints which peers join and leave.
fn tell(mesh: &Mesh, screen: &Screen) -> tokio::task::JoinHandle<()> {
    let (mut events, screen) = (mesh.events(), screen.clone());
    let name = |peer: &Peer| match peer.addr() {
        Some(addr) => addr.to_string(),
        None => peer.id().to_string(),
    };
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Listening { addr } => screen.show(&format!("* listening on {addr}")),
                Event::PeerConnected { peer } => screen.show(&format!("* {} joined", name(&peer))),
                Event::PeerDisconnected { peer, reason } => {
                    screen.show(&format!("* {} left: {reason}", name(&peer)));
                }
                Event::Error { error, .. } => screen.show(&format!("* {}", error.report())),
                _ => {}
            }
        }
    })
}

/// Broadcasts all lines.
async fn talk(mesh: &Mesh, handle: &str, mut lines: mpsc::Receiver<String>) -> Result<()> {
    let mut events = mesh.events();
    while let Some(text) = lines.recv().await {
        // Without a peer, hold the line until one connects.
        while mesh.peers().is_empty() {
            events.next().await.ok_or("the mesh has ended")?;
        }
        let handle = handle.to_owned();
        let _ = mesh.broadcast("chat", &Chat { handle, text }).await?;
    }
    mesh.peers().flushed().await;
    Ok(())
}

/// Reads lines in a separate thread, no faster than they are sent.
fn keyboard() -> Result<(mpsc::Receiver<String>, Screen)> {
    let (sender, lines) = mpsc::channel(1);
    if !std::io::stdin().is_terminal() {
        std::thread::spawn(move || {
            for line in std::io::stdin()
                .lock()
                .lines()
                .map_while(std::io::Result::ok)
            {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        return Ok((lines, Screen(Arc::default())));
    }
    let mut editor = DefaultEditor::new()?;
    let printer: Box<dyn ExternalPrinter + Send> = Box::new(editor.create_external_printer()?);
    std::thread::spawn(move || {
        loop {
            match editor.readline("> ") {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
                Err(ReadlineError::Interrupted | ReadlineError::Eof) => return,
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "cannot read: {error}");
                    return;
                }
            }
        }
    });
    Ok((lines, Screen(Arc::new(Mutex::new(Some(printer))))))
}
