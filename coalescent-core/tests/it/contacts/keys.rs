//! Contacts that prove keys.

use std::time::Duration;

use coalescent_core::identity::Identity;
use coalescent_core::transport::tls::Tls;

use super::*;

struct Keys {
    a: Mesh,
    a_saw: Contacts,
    b: Mesh,
    b_key: Identity,
    /// Where `a` listens, with its key.
    at: Address,
}

async fn keys() -> Keys {
    let (a_key, b_key) = (Identity::generate(), Identity::generate());
    let a_saw = Contacts::default();
    let a = app(&a_saw).tls(Tls::new(a_key.clone()).allow([b_key.id()]));
    let a = a.listen("127.0.0.1:0").await.unwrap();
    let b = app(&Contacts::default()).identity(b_key.clone());
    let b = b.start().await.unwrap();
    let at = address(&format!("{}@{}", a_key.id(), a.local_addrs()[0]));
    Keys {
        a,
        a_saw,
        b,
        b_key,
        at,
    }
}

#[tokio::test]
async fn a_contact_whose_key_is_banned_is_let_go_and_not_let_in() {
    let Keys {
        a, a_saw, b, at, ..
    } = keys().await;
    let there = b.contact(&at, None).await.unwrap();
    a_saw.contact(1).await;
    b.ban(
        there.id().key().expect("a key"),
        Duration::from_secs(60),
        "a test",
    )
    .unwrap();
    assert!(soon("the end", there.closed()).await.is_banned());
    let error = b.contact(&at, None).await.unwrap_err();
    assert!(error.is_banned(), "{error}");
    until("it has ended", || a_saw.log() == ["contact", "end"]).await;
    drop(a);
}

#[tokio::test]
async fn a_contact_whose_key_is_no_longer_allowed_is_let_go() {
    let Keys {
        a,
        a_saw,
        b,
        b_key,
        at,
    } = keys().await;
    let there = b.contact(&at, None).await.unwrap();
    a_saw.contact(1).await;
    assert!(a.disallow(&b_key.id()).unwrap());
    soon("the end", there.closed()).await;
    assert!(b.contact(&at, None).await.is_err());
}

#[tokio::test]
async fn a_connected_key_is_found_without_a_dial() {
    let Keys { a: _a, b, at, .. } = keys().await;
    let there = b.contact(&at, None).await.unwrap();
    // Far more than the budget has, at an address where nobody is.
    let elsewhere = address(&format!(
        "{}@127.0.0.1:9",
        at.to_string().split_once('@').unwrap().0
    ));
    for _ in 0..100 {
        assert!(b.contact(&elsewhere, Some(&there)).await.unwrap() == there);
    }
}
