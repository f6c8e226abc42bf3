//! Stacks whose type is erased or chosen at run time, and stacks without an app.

use std::time::Duration;

use coalescent::connection::{self, ConnectionInfo};
use coalescent::{App, BoxError, Config, Frame, Inbox, Peers, Reply};
use tower::timeout::TimeoutLayer;
use tower::util::{BoxCloneService, BoxLayer, BoxService, option_layer};
use tower::{Layer, ServiceBuilder, service_fn};

use super::support::{ask, handle, node};

type Boxed = BoxService<Frame, Reply, BoxError>;

async fn echo(frame: Frame) -> Result<Reply, BoxError> {
    Ok(Reply::Payload(frame.into_payload()))
}

async fn never(_: Frame) -> Result<Reply, BoxError> {
    std::future::pending().await
}

fn chosen(echoes: bool, timeout: Option<Duration>) -> BoxLayer<Inbox, Frame, Reply, BoxError> {
    let timeout = option_layer(timeout.map(TimeoutLayer::new));
    let stack = ServiceBuilder::new()
        .map_err(Into::<BoxError>::into)
        .layer(timeout);
    if echoes {
        BoxLayer::new(stack.layer(handle(echo)).into_inner())
    } else {
        BoxLayer::new(stack.layer(handle(never)).into_inner())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_can_be_chosen_at_run_time() {
    let second = Some(Duration::from_secs(1));
    for (echoes, timeout) in [(true, None), (true, second), (false, second)] {
        let (_mesh, alice) = node(App::new().layer(chosen(echoes, timeout))).await;
        let answer = ask(alice.peer(), "hello").await;
        match answer {
            Ok(text) => assert!(echoes && text == "hello"),
            Err(error) => assert!(
                !echoes && error.report().to_string().contains("timed out"),
                "{error}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn boxed_services_serve_a_connection_without_an_app() {
    let stacks: [fn(&Peers) -> Boxed; 3] = [
        |_| BoxService::new(service_fn(echo)),
        |_| BoxService::new(BoxCloneService::new(service_fn(echo))),
        |peers| BoxService::new(chosen(true, None).layer(peers.inbox())),
    ];
    for stack in stacks {
        let (here, there) = (Peers::new(Config::default()), Peers::new(Config::default()));
        let (left, right) = tokio::io::duplex(1024);
        let mut joined = here.changes();
        let theirs = tokio::spawn({
            let (there, stack) = (there.clone(), stack(&there));
            async move { connection::serve(right, stack, &there, ConnectionInfo::inbound()).await }
        });
        let ours = tokio::spawn({
            let here = here.clone();
            async move { connection::serve(left, here.inbox(), &here, ConnectionInfo::outbound()).await }
        });
        let Some(coalescent::PeerChange::Joined(peer)) = joined.next().await else {
            panic!("nobody joined");
        };
        assert_eq!(ask(&peer, "hello").await.unwrap(), "hello");
        peer.disconnect("done");
        assert!(ours.await.unwrap().is_ok());
        assert!(theirs.await.unwrap().is_ok());
    }
}
