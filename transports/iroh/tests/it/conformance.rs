//! What every transport is asked.

use coalescent::test_util::transport;
use coalescent_iroh::Iroh;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::{EndpointAddr, TransportAddr};

use crate::support::{builder, endpoint, socket};

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
