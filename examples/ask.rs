//! Ask and answer with types: a store of numbers, and a node that asks it.
//!
//! ```text
//! cargo run --example ask
//! ```

#[path = "support/command_line.rs"]
mod command_line;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use coalescent::extract::{Body, State};
use coalescent::prelude::*;
use coalescent::{Refusal, Router};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Set {
    key: String,
    value: u64,
}

#[derive(Serialize, Deserialize)]
struct Get {
    key: String,
}

// What crosses the network: the name of each type of message, and what answers it.
message_type! {
    Set => "set",
    Get => "get" -> u64,
}

type Store = Arc<Mutex<HashMap<String, u64>>>;

async fn set(State(store): State<Store>, Body(Set { key, value }): Body<Set>) {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    store.insert(key, value);
}

/// Answers, or says why not.
async fn get(State(store): State<Store>, Body(get): Body<Get>) -> Result<impl IntoReply, Refusal> {
    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let value = store.get(&get.key).copied();
    let value = value.ok_or_else(|| Refusal::new(format!("nobody has set {:?}", get.key)))?;
    Ok(Message::new("value", &value))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    command_line::none("A store of numbers, and a node that asks it");
    let router = Router::new().typed(set).typed(get);
    let keeper = App::new()
        .with(Courier::new())
        .with(router.with_state(Store::default()))
        .listen("127.0.0.1:0")
        .await?;
    let asking = App::new().with(Courier::new()).start().await?;
    let peer = asking.connect(&keeper.local_addrs()[0].to_string()).await?;

    let key = "answer".to_owned();
    peer.send_typed(&Set { key, value: 42 }).await?;
    let key = "answer".to_owned();
    let value = peer.ask(&Get { key }).await?;
    println!("the answer is {value}");
    assert_eq!(value, 42);

    let key = "question".to_owned();
    let refused = peer.ask(&Get { key }).await.unwrap_err();
    println!("refused: {}", refused.peer_reason().unwrap_or("?"));
    assert!(refused.is_failed());
    Ok(())
}
