//! Errors of handlers are answers: what the asker learns, and what becomes an event.

use std::time::Duration;

use coalescent_core::transport::Memory;
use coalescent_core::wire::{Kind, Status};
use coalescent_core::{App, AppExt, BoxError, Event, Events, Frame, Refusal, Reply};
use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{handle, join, soon};
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use crate::calls::PIPE;

/// Returns the texts of the errors that have been reported.
fn errors(events: &mut Events) -> Vec<String> {
    let mut errors = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        if let Event::Error { error, .. } = event {
            assert!(!error.is_offence(), "{error}");
            errors.push(error.report().to_string());
        }
    }
    errors
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_answered_without_an_event() {
    let stack = handle(|frame: Frame| async move {
        match frame.payload() {
            b"refuse" => Err(Refusal::new("not on a Sunday").into()),
            b"wrapped" => Err(std::io::Error::other(Refusal::new("not at night")).into()),
            b"long" => Err(Refusal::new("é".repeat(10_000)).into()),
            b"fail" => Err("the disk is full".into()),
            _ => Ok(Reply::Payload("yes".into())),
        }
    });
    let network = Memory::new();
    let app = App::new().transport(network.clone()).with(stack);
    let mesh = app.listen("asked:1").await.unwrap();
    let mut events = mesh.events();
    let asking = App::new().transport(network).start().await.unwrap();
    let peer = asking.connect("asked:1").await.unwrap();
    // More often than the peer may offend.
    for _ in 0..200 {
        let error = peer.request_payload("refuse").await.unwrap_err();
        assert!(error.is_failed() && !error.is_refused(), "{error}");
        assert_eq!(error.peer_reason(), Some("not on a Sunday"));
    }
    let error = peer.request_payload("wrapped").await.unwrap_err();
    assert_eq!(error.peer_reason(), Some("not at night"));
    let error = peer.request_payload("long").await.unwrap_err();
    assert_eq!(error.peer_reason(), Some(&*"é".repeat(128)));
    assert_eq!(errors(&mut events), [""; 0]);

    let error = peer.request_payload("fail").await.unwrap_err();
    assert_eq!(error.peer_reason(), Some("the disk is full"));
    let reported = errors(&mut events);
    assert!(matches!(&reported[..], [one] if one.contains("the disk is full")));
    assert_eq!(peer.request_payload("ask").await.unwrap(), "yes");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_be_told_is_an_event_and_no_offence() {
    let stack = handle(|_| async { Err::<Reply, BoxError>(Refusal::new("go away").into()) });
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut events = mesh.events();
    let mut peer = join(&mesh, PIPE).await;
    for id in 0..150 {
        peer.send(Kind::Data, "x").await;
        peer.send(Kind::Broadcast { nonce: id.into() }, "x").await;
        peer.send(Kind::Request { id }, "x").await;
    }
    for id in 0..150 {
        let answer = soon("an answer", peer.recv()).await.expect("an answer");
        let status = Status::Failed;
        assert_eq!(answer.kind, Kind::Reply { id, status });
        assert_eq!(answer.payload, "go away");
    }
    assert_eq!(mesh.peers().len(), 1);
    let reported = errors(&mut events);
    assert!(reported.iter().any(|text| text.contains("go away")));
    assert!(reported.len() <= 101, "{}", reported.len());
}

#[tokio::test(start_paused = true)]
async fn what_is_shed_is_answered_and_the_connection_stays() {
    let stack = handle(|frame: Frame| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Reply::Payload(frame.into_payload()))
    });
    let network = Memory::new();
    let app = App::new()
        .transport(network.clone())
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .with(stack);
    let mesh = app.listen("asked:1").await.unwrap();
    let mut events = mesh.events();
    let asking = App::new().transport(network).start().await.unwrap();
    let peer = asking.connect("asked:1").await.unwrap();
    let answers = join_all((0..200).map(|n| peer.request_payload(format!("{n}")))).await;
    let shed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!((100..200).contains(&shed.len()), "{}", shed.len());
    for error in &shed {
        let reason = error.peer_reason().expect("an answer");
        assert_eq!(reason, "service overloaded");
    }
    assert!(errors(&mut events).len() <= 101);
    assert_eq!(mesh.peers().len(), 1);
    assert!(peer.request_payload("again").await.is_ok());
}
