//! A preset for endpoints that talk to nobody whom the user has not named.

use iroh::dns::DnsResolver;
use iroh::endpoint::presets::{Minimal, Preset};
use iroh::endpoint::{Builder, PortmapperConfig};

use crate::ALPN;

/// A preset of iroh for endpoints that talk to nobody whom you have not named.
///
/// No relay, no address lookup, no port mapping. It differs from [`Minimal`] in this: the names of
/// the relays that you add are asked of the system's name servers alone, while iroh would go on to
/// ask public ones when these fail; the router is not asked to map a port; and the endpoint accepts
/// [`ALPN`].
///
/// ```
/// use coalescent_iroh::Quiet;
/// use iroh::{Endpoint, RelayMode};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = Endpoint::builder(Quiet)
///     .relay_mode(RelayMode::custom(["https://relay.example".parse()?])) // if you have one
/// #   .relay_mode(RelayMode::Disabled)
///     .bind()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Preset for Quiet {
    fn apply(self, builder: Builder) -> Builder {
        let names = DnsResolver::builder()
            .with_system_defaults()
            .disable_fallback();
        Minimal
            .apply(builder)
            .dns_resolver(names.build())
            .portmapper_config(PortmapperConfig::Disabled)
            .alpns(vec![ALPN.to_vec()])
    }
}
