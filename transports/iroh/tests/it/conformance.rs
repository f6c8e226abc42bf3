//! What every transport is asked, and how a connection of this one ends.

use coalescent::test_util::transport;
use coalescent::transport::{BoxIo, Transport};
use coalescent_iroh::Iroh;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::{Endpoint, EndpointAddr, TransportAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{at, builder, endpoint, socket, soon};

#[tokio::test]
async fn iroh_is_a_good_transport() {
    let there = endpoint().await;
    let lookup = MemoryLookup::new();
    let place = TransportAddr::Ip(socket(&there));
    lookup.add_endpoint_info(EndpointAddr::from_parts(there.id(), [place]));
    let here = builder().address_lookup(lookup).bind().await;
    let here = here.expect("an endpoint");
    transport::check(Iroh::new(there), Iroh::new(here), "iroh:").await;
}

/// Less than a window, so that it can be written without being read.
const MUCH: usize = 1_000_000;

/// An open connection, and the endpoint of the side that has dialled.
async fn connection() -> (BoxIo, BoxIo, Endpoint) {
    let (there, here) = (endpoint().await, endpoint().await);
    let address = at(&there).parse().expect("an address");
    let (accepting, dialling) = (Iroh::new(there), Iroh::new(here.clone()));
    let mut listener = accepting.listen("iroh:").await.expect("a listener");
    let connecting = dialling.connect(&address, &|_| Ok(()));
    let (dialled, accepted) = tokio::join!(connecting, listener.accept());
    let (dialled, accepted) = (dialled.expect("a peer"), accepted.expect("a peer"));
    (dialled.io, accepted.io, here)
}

async fn rest(mut io: BoxIo) -> usize {
    let mut all = Vec::new();
    let read = soon("the end", io.read_to_end(&mut all)).await;
    read.expect("an end that is none of an accident")
}

#[tokio::test]
async fn what_was_written_to_a_stream_that_is_dropped_arrives() {
    let (mut near, far, _endpoint) = connection().await;
    near.write_all(&vec![7; MUCH])
        .await
        .expect("an open stream");
    drop(near);
    assert_eq!(rest(far).await, MUCH);
}

#[tokio::test]
async fn after_a_shutdown_the_other_host_has_all() {
    let (mut near, far, endpoint) = connection().await;
    near.write_all(&vec![7; MUCH])
        .await
        .expect("an open stream");
    soon("the shutdown", near.shutdown())
        .await
        .expect("an open stream");
    // It sends nothing any more.
    endpoint.close().await;
    drop((near, endpoint));
    assert_eq!(rest(far).await, MUCH);
}
