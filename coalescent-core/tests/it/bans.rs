//! Bans: who is shown the door, and not let in again for a while.

use std::net::IpAddr;
use std::time::Duration;

use coalescent_core::identity::PublicKey;
use coalescent_core::wire::Kind;
use coalescent_core::{
    App, Ban, BanTarget, DisconnectReason, Error, Event, Events, Mesh, PeerLayer, Source,
    Suggestion,
};
use support::internet::Internet;
use support::{soon, until};
use tokio::time::{Instant, timeout};

const HERE: &str = "198.51.100.1";
const THERE: &str = "203.0.113.2";

const MINUTE: Duration = Duration::from_secs(60);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn app(internet: &Internet, host: &str) -> App<impl PeerLayer + use<>> {
    App::new()
        .transport(internet.host(ip(host)))
        .allow_plaintext()
}

async fn listen(internet: &Internet, host: &str) -> Mesh {
    let app = app(internet, host);
    app.listen(format!("{host}:1")).await.unwrap()
}

async fn start(internet: &Internet, host: &str) -> Mesh {
    app(internet, host).start().await.unwrap()
}

/// Waits for the next ban that is told.
async fn banned(events: &mut Events) -> (Option<String>, Option<String>, String, Duration) {
    loop {
        if let Event::Banned {
            peer,
            addr,
            reason,
            duration,
        } = soon("an event", events.next()).await.unwrap()
        {
            let peer = peer.map(|peer| peer.to_string());
            return (peer, addr.map(|addr| addr.to_string()), reason, duration);
        }
    }
}

async fn refused(mesh: &Mesh, addr: &str) -> Error {
    let refused = mesh.connect(addr).await.unwrap_err();
    assert!(refused.is_banned() && refused.is_refused(), "{refused}");
    refused
}

/// Connects `there` to `here`, and has it commit as many faults as lead to a ban.
async fn misbehave(here: &Mesh, there: &Mesh, addr: &str) -> DisconnectReason {
    let peer = there.connect(addr).await.unwrap();
    until("a peer", || here.peers().len() == 1).await;
    here.peers().list()[0].penalize(101, "junk");
    let told = peer.closed().await;
    until("nobody", || here.peers().is_empty()).await;
    told
}

#[tokio::test(start_paused = true)]
async fn who_misbehaves_is_banned_by_address_for_longer_each_time() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    let mut events = here.events();
    let there = start(&internet, THERE).await;
    let addr = format!("{HERE}:1");
    for minutes in [10, 20, 40] {
        let told = misbehave(&here, &there, &addr).await;
        assert!(told.is_banned(), "{told}");
        assert!(told.to_string().contains("junk"), "{told}");
        let (peer, from, reason, duration) = banned(&mut events).await;
        assert_eq!(peer, Some(there.id().to_string()));
        assert!(from.unwrap().starts_with(THERE));
        assert!(reason.contains("junk"), "{reason}");
        assert_eq!(duration, minutes * MINUTE);
        let bans = here.bans();
        assert_eq!(bans.len(), 1);
        assert_eq!(bans[0].target(), ip(THERE).into());

        let until_then = Instant::now() + duration;
        let refused = refused(&there, &addr).await;
        assert!(
            refused.to_string().contains("the peer refused: banned"),
            "{refused}"
        );
        tokio::time::sleep_until(until_then - MINUTE).await;
        self::refused(&there, &addr).await;
        // Others come in as before.
        let other = start(&internet, "203.0.113.3").await;
        other.connect(&addr).await.unwrap();
        other.shutdown().await;
        until("nobody", || here.peers().is_empty()).await;
        tokio::time::sleep_until(until_then).await;
        assert!(here.bans().is_empty());
    }
    there.connect(&addr).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_64_is_one_address() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    let addr = format!("{HERE}:1");
    let there = start(&internet, "2001:db8::1").await;
    misbehave(&here, &there, &addr).await;
    refused(&start(&internet, "2001:db8::ffff:1").await, &addr).await;
    let other = start(&internet, "2001:db8:0:1::1").await;
    other.connect(&addr).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_violation_of_the_protocol_is_enough() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    let mut events = here.events();
    let there = internet.host(ip(THERE));
    let address = format!("{HERE}:1").parse().unwrap();
    let dial = async || {
        use coalescent_core::transport::Transport;
        there.connect(&address, &|_| Ok(())).await.unwrap().io
    };
    let mut by_hand = support::ByHand::connect(dial().await).await;
    let again = support::hello(by_hand.node, "");
    by_hand.send(Kind::Hello, again).await;
    let (_, _, reason, duration) = banned(&mut events).await;
    assert!(reason.contains("a second HELLO"), "{reason}");
    assert_eq!(duration, 10 * MINUTE);
    let bye = by_hand.recv().await.unwrap();
    assert_eq!(bye.kind, Kind::Bye);
    assert!(bye.payload.starts_with(b"banned: "), "{bye:?}");

    // At the door: one BYE, before anything was said.
    let mut by_hand = support::ByHand::new(dial().await);
    let bye = by_hand.recv().await.unwrap();
    assert_eq!((bye.kind, &bye.payload[..]), (Kind::Bye, &b"banned"[..]));
    assert!(by_hand.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_goes_before_it_is_too_much_does_not_begin_anew() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    let there = start(&internet, THERE).await;
    let addr = format!("{HERE}:1");
    for _ in 0..2 {
        let peer = there.connect(&addr).await.unwrap();
        until("a peer", || here.peers().len() == 1).await;
        here.peers().list()[0].penalize(60, "junk");
        peer.disconnect("to begin anew");
        until("nobody", || here.peers().is_empty()).await;
        peer.closed().await;
    }
    refused(&there, &addr).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_gone_or_killed_is_not_banned() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    let address = format!("{HERE}:1").parse().unwrap();
    let there = internet.host(ip(THERE));
    for end in 0..3 {
        use coalescent_core::transport::Transport;
        let io = there.connect(&address, &|_| Ok(())).await.unwrap().io;
        let mut by_hand = support::ByHand::connect(io).await;
        until("a peer", || here.peers().len() == 1).await;
        match end {
            // It answers no ping.
            0 => {
                let peer = here.peers().list()[0].clone();
                assert!(matches!(peer.closed().await, DisconnectReason::NoAnswer));
            }
            // It is killed in the middle of a frame.
            1 => {
                use tokio::io::AsyncWriteExt;
                let io = by_hand.framed.get_mut();
                io.write_all(&[0, 0, 0, 100, 1]).await.unwrap();
                drop(by_hand);
            }
            _ => by_hand.send(Kind::Bye, "good night").await,
        }
        until("nobody", || here.peers().is_empty()).await;
    }
    // Nor who is no peer at all.
    use coalescent_core::transport::Transport;
    use tokio::io::AsyncWriteExt;
    let mut io = there.connect(&address, &|_| Ok(())).await.unwrap().io;
    io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(io);
    assert!(here.bans().is_empty());
    start(&internet, THERE)
        .await
        .connect(&format!("{HERE}:1"))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_dialler_waits_until_the_ban_ends() {
    let internet = Internet::new();
    let there = listen(&internet, THERE).await;
    let seed = format!("{THERE}:1");
    internet.name("seed.example.org", [ip(THERE)]);
    for seed in [seed.clone(), "seed.example.org:1".to_owned()] {
        let app = app(&internet, HERE).seeds([&seed]);
        let here = app.start().await.unwrap();
        here.connected(1).await.unwrap();
        here.peers().list()[0].penalize(101, "junk");
        until("nobody", || here.peers().is_empty()).await;
        until("nobody there", || there.peers().is_empty()).await;
        let dials = internet.dials();
        assert!(
            refused(&here, &seed)
                .await
                .to_string()
                .contains("this node has banned it")
        );
        let probed = here.probe(&seed.parse().unwrap()).await.unwrap_err();
        assert!(probed.is_banned(), "{probed}");
        let mut suggested = here.events();
        let ours = Source::new("ours");
        here.suggest(Suggestion::new(format!("{THERE}:2").parse().unwrap(), ours));
        let quiet = timeout(9 * MINUTE, async {
            loop {
                if let Some(Event::Discovered { .. }) = suggested.next().await {
                    break;
                }
            }
        });
        assert!(quiet.await.is_err(), "a suggestion was taken");
        assert_eq!(internet.dials(), dials, "{seed}");
        timeout(2 * MINUTE, here.connected(1))
            .await
            .expect("it is over")
            .unwrap();
        here.shutdown().await;
        until("nobody there", || there.peers().is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_suggested_address_is_forgotten_and_a_seed_is_dialled_once_unbanned() {
    let internet = Internet::new();
    let there = listen(&internet, THERE).await;
    let addr = format!("{THERE}:1");
    let here = start(&internet, HERE).await;
    here.suggest(Suggestion::new(addr.parse().unwrap(), Source::new("ours")));
    here.connected(1).await.unwrap();
    here.peers().list()[0].penalize(101, "junk");
    until("nobody", || here.peers().is_empty()).await;
    assert!(here.unban(ip(THERE)));
    let dials = internet.dials();
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(internet.dials(), dials, "it is forgotten");

    here.add_seed(&addr).unwrap();
    here.connected(1).await.unwrap();
    here.ban(ip(THERE), 60 * MINUTE, "we have met").unwrap();
    until("nobody", || here.peers().is_empty()).await;
    until("nobody there", || there.peers().is_empty()).await;
    assert_eq!(here.wanted().now(), 3, "it fills no place");
    assert!(here.unban(ip(THERE)) && !here.unban(ip(THERE)));
    timeout(MINUTE, here.connected(1))
        .await
        .expect("at once")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_application_bans_lists_and_restores() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    let mut events = here.events();
    let there = start(&internet, THERE).await;
    let addr = format!("{HERE}:1");
    let peer = there.connect(&addr).await.unwrap();
    until("a peer", || here.peers().len() == 1).await;
    let gone = here.peers().list()[0].clone();
    let ban = here.ban(ip(THERE), Duration::MAX, "spam").unwrap();
    assert_eq!(ban.left(), Duration::from_secs(24 * 3600));
    let told = peer.closed().await;
    assert!(
        told.is_banned() && told.to_string().contains("spam"),
        "{told}"
    );
    assert!(matches!(gone.closed().await, DisconnectReason::Banned(why) if why == "spam"));
    let (peer, from, reason, duration) = banned(&mut events).await;
    assert_eq!((peer, from.as_deref()), (None, Some("203.0.113.2:0")));
    assert_eq!((reason.as_str(), duration), ("spam", ban.left()));
    refused(&there, &addr).await;

    let later = listen(&internet, "198.51.100.2").await;
    let forged =
        Ban::new(PublicKey::from_bytes([7; 32]).unwrap(), Duration::MAX, "").with_times(u32::MAX);
    let local = Ban::new(ip("127.0.0.1"), MINUTE, "");
    later.restore_bans(here.bans().into_iter().chain([forged, local]));
    assert_eq!(later.bans().len(), 2);
    assert!(
        later
            .bans()
            .iter()
            .all(|ban| ban.left() <= Duration::from_secs(24 * 3600))
    );
    refused(&there, "198.51.100.2:1").await;
    let refused = later.admit((ip(THERE), 7).into()).await.unwrap_err();
    assert!(refused.is_banned(), "{refused}");
    assert!(here.unban(ip(THERE)));
    there.connect(&addr).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn loopback_is_only_disconnected() {
    let internet = Internet::new();
    let here = listen(&internet, "127.0.0.1").await;
    let mut events = here.events();
    let there = start(&internet, "127.0.0.2").await;
    let told = misbehave(&here, &there, "127.0.0.1:1").await;
    assert!(!told.is_banned(), "{told}");
    let (.., duration) = banned(&mut events).await;
    assert_eq!(duration, Duration::ZERO);
    assert!(here.bans().is_empty());
    there.connect("127.0.0.1:1").await.unwrap();
    let error = here.ban(ip("::1"), MINUTE, "spam").unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_a_key_is_banned_by_its_address() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    for (from, bannable) in [(THERE, true), ("127.0.0.1", false)] {
        let there = start(&internet, from).await;
        let told = there.connect(&format!("{HERE}:1")).await.unwrap();
        until("a peer", || here.peers().len() == 1).await;
        let peer = here.peers().list()[0].clone();
        match peer.ban(MINUTE, "spam") {
            Ok(ban) => {
                assert!(bannable, "{from}");
                assert_eq!(ban.target(), ip(from).into());
                assert!(told.closed().await.is_banned());
            }
            Err(error) => {
                assert!(!bannable && error.is_config(), "{from}: {error}");
                peer.disconnect("spam");
            }
        }
        until("nobody", || here.peers().is_empty()).await;
    }
    assert_eq!(here.bans().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_bans_has_none() {
    let internet = Internet::new();
    let app = app(&internet, HERE).configure(|config| config.ban = Duration::ZERO);
    let here = app.listen(format!("{HERE}:1")).await.unwrap();
    let mut events = here.events();
    let there = start(&internet, THERE).await;
    misbehave(&here, &there, &format!("{HERE}:1")).await;
    assert_eq!(banned(&mut events).await.3, Duration::ZERO);
    there.connect(&format!("{HERE}:1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flood_from_a_banned_address_keeps_nobody_out_and_is_not_told() {
    let internet = Internet::new();
    let here = listen(&internet, HERE).await;
    here.ban(ip(THERE), MINUTE * 60, "spam").unwrap();
    let mut events = here.events();
    let there = internet.host(ip(THERE));
    let address = format!("{HERE}:1").parse().unwrap();
    let mut open = Vec::new();
    for _ in 0..2000 {
        use coalescent_core::transport::Transport;
        open.push(there.connect(&address, &|_| Ok(())).await.unwrap().io);
    }
    let honest = start(&internet, "203.0.113.3").await;
    honest.connect(&format!("{HERE}:1")).await.unwrap();
    until("a peer", || here.peers().len() == 1).await;
    here.shutdown().await;
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Error { .. }), "{event:?}");
    }
}

#[cfg(feature = "tls")]
mod keys {
    use coalescent_core::identity::Identity;
    use coalescent_core::transport::tls::Tls;

    use super::*;

    fn secure(internet: &Internet, host: &str, identity: &Identity) -> App<impl PeerLayer + use<>> {
        App::new()
            .transport(internet.host(ip(host)))
            .identity(identity.clone())
    }

    #[tokio::test]
    async fn a_peer_is_banned_by_its_key_alone() {
        let internet = Internet::new();
        let theirs = Identity::generate();
        let here = secure(&internet, HERE, &Identity::generate());
        let here = here.listen(format!("{HERE}:1")).await.unwrap();
        let there = secure(&internet, THERE, &theirs).start().await.unwrap();
        let told = there.connect(&format!("{HERE}:1")).await.unwrap();
        until("a peer", || here.peers().len() == 1).await;
        let peer = here.peers().list()[0].clone();
        assert_eq!(peer.id().key(), Some(theirs.id()));
        assert_eq!(
            peer.ban(MINUTE, "spam").unwrap().target(),
            theirs.id().into()
        );
        assert!(told.closed().await.is_banned());
        assert_eq!(here.bans().len(), 1);
        let other = secure(&internet, THERE, &Identity::generate());
        let other = other.start().await.unwrap();
        other.connect(&format!("{HERE}:1")).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_is_banned_wherever_it_comes_from() {
        let internet = Internet::new();
        let (mine, theirs) = (Identity::generate(), Identity::generate());
        let here = secure(&internet, HERE, &mine);
        let here = here.listen(format!("{HERE}:1")).await.unwrap();
        let mut events = here.events();
        let there = secure(&internet, THERE, &theirs).start().await.unwrap();
        let addr = format!("{HERE}:1");
        let told = misbehave(&here, &there, &addr).await;
        assert!(told.is_banned(), "{told}");
        let (peer, ..) = banned(&mut events).await;
        assert_eq!(peer, Some(theirs.id().to_string()));
        assert_eq!(here.bans().len(), 2, "its key and its address");
        there.shutdown().await;

        let moved = secure(&internet, "203.0.113.9", &theirs);
        let moved = moved.listen("203.0.113.9:1").await.unwrap();
        let refused = refused(&moved, &addr).await;
        assert!(
            refused.to_string().contains("the peer refused"),
            "{refused}"
        );
        // Nor is it dialled, whether its key is named or not.
        for to in [String::new(), format!("{}@", theirs.id())] {
            self::refused(&here, &format!("{to}203.0.113.9:1")).await;
        }
        // Another one at the first address finds the door closed before it can say who it is.
        let other = secure(&internet, THERE, &Identity::generate());
        let other = other.start().await.unwrap();
        other.connect(&addr).await.unwrap_err();
        assert!(here.unban(ip(THERE)));
        other.connect(&addr).await.unwrap();
        assert!(here.unban(theirs.id()));
        moved.connect(&addr).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_on_the_allow_list_is_only_disconnected() {
        let internet = Internet::new();
        let theirs = Identity::generate();
        let tls = Tls::new(Identity::generate()).allow([theirs.id()]);
        let here = App::new().transport(internet.host(ip(HERE))).tls(tls);
        let here = here.listen(format!("{HERE}:1")).await.unwrap();
        let mut events = here.events();
        let there = secure(&internet, THERE, &theirs).start().await.unwrap();
        misbehave(&here, &there, &format!("{HERE}:1")).await;
        assert_eq!(banned(&mut events).await.3, Duration::ZERO);
        assert!(here.bans().is_empty());
        there.connect(&format!("{HERE}:1")).await.unwrap();
        let error = here.ban(theirs.id(), MINUTE, "spam").unwrap_err();
        assert!(error.is_config(), "{error}");
        let key = BanTarget::from(Identity::generate().id());
        assert_eq!(here.ban(key, MINUTE, "spam").unwrap().target(), key);
    }
}
