//! Addresses of other schemes than `tcp` stay with the node that knows them.

use coalescent_core::identity::PublicKey;
use coalescent_core::test_util::KeyNetwork;
use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt};
use coalescent_layers::discovery::book::AddressBook;
use coalescent_layers::discovery::exchange::Exchange;
use support::until;

#[tokio::test(start_paused = true)]
async fn what_is_not_of_tcp_is_neither_remembered_nor_told() {
    let (network, memory) = (KeyNetwork::new(), Memory::new());
    let key = |number| PublicKey::from_bytes([number; 32]).unwrap();
    let at_key = format!("key:{}", key(7));
    let keyed = App::new().transport(network.node(key(7)));
    let keyed = keyed.listen("key:").await.unwrap();
    let plain = App::new().transport(memory.clone());
    let plain = plain.listen("plain:1").await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("peers.book");
    let book = AddressBook::new().file(&file);
    let known = book.book().clone();
    let here = App::new()
        .transport(network.node(key(8)))
        .transport(memory.clone())
        .seeds([&at_key, "plain:1"])
        .plugin(Exchange::new(&known))
        .plugin(book)
        .listen("here:2")
        .await
        .unwrap();
    here.connected(2).await.unwrap();
    let remembered = || known.update(|table, _| table.tried_len());
    until("one is remembered", || remembered() == 1).await;

    let book = AddressBook::new();
    let heard = book.book().clone();
    let other = App::new()
        .transport(memory)
        .plugin(Exchange::new(&heard))
        .plugin(book)
        .start()
        .await
        .unwrap();
    other.connect("here:2").await.unwrap();
    until("one is told", || !heard.update(|table, _| table.is_empty())).await;
    let addresses = known.tellable().into_iter().chain(heard.tellable());
    for address in addresses {
        assert_eq!(address.scheme(), "tcp", "{address}");
    }
    assert_eq!(remembered(), 1);
    here.shutdown().await;
    let saved = std::fs::read_to_string(file).unwrap();
    assert!(
        saved.contains("plain:1") && !saved.contains("key:"),
        "{saved}"
    );
    drop((keyed, plain));
}
