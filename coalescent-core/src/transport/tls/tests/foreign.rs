//! Tests against peers that are not nodes, are outdated, or cheat.

use proptest::prelude::*;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::version::TLS12;

use super::*;

#[derive(Debug)]
struct KeyLess;

impl ResolvesClientCert for KeyLess {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }
    fn only_raw_public_keys(&self) -> bool {
        true
    }
    fn has_certs(&self) -> bool {
        true
    }
}

fn gullible(raw: bool) -> Arc<Gullible> {
    Arc::new(Gullible { raw, ask: true })
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_key_is_rejected() {
    // It promises a key, but presents none.
    let mut client = client_of(&Identity::generate());
    client.client_auth_cert_resolver = Arc::new(KeyLess);
    let error = dialled_by(&node(), client).await;
    assert!(error.is_handshake(), "{error}");
    // Rejected during the handshake, not afterwards.
    let text = crate::error::report(&error).to_string();
    assert!(text.contains("no certificates"), "{text}");

    // This client does not support client keys at all.
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(gullible(true))
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let error = dialled_by(&node(), client).await;
    assert!(error.is_handshake(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_requests_no_key_is_rejected() {
    let identity = Identity::generate();
    let key = Arc::clone(identity.certified_key());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    server.alpn_protocols = vec![ALPN.to_vec()];
    let (error, data) = dialling_to(&node(), Some(identity.id()), server).await;
    assert!(error.is_handshake(), "{error}");
    assert_eq!(data, None);
}

#[tokio::test(start_paused = true)]
async fn certificates_are_rejected() {
    let (chain, key) = x509();
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(gullible(false))
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .unwrap();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let error = dialled_by(&node(), client).await;
    assert!(error.is_handshake(), "{error}");

    for raw in [false, true] {
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(gullible(raw))
            .with_single_cert(chain.clone(), key.clone_key())
            .unwrap();
        server.alpn_protocols = vec![ALPN.to_vec()];
        let (error, data) = dialling_to(&node(), None, server).await;
        assert!(error.is_handshake(), "{error}");
        assert_eq!(data, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_presented_as_a_key_is_rejected() {
    let (chain, _) = x509();
    let liar = impostor(&chain[0], &Identity::generate());
    let mut client = client_of(&Identity::generate());
    let resolver = AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&liar));
    client.client_auth_cert_resolver = Arc::new(resolver);
    assert!(dialled_by(&node(), client).await.is_handshake());

    let mut server = server_of(&Identity::generate());
    server.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(liar));
    assert!(dialling_to(&node(), None, server).await.0.is_handshake());
}

#[tokio::test(start_paused = true)]
async fn more_than_one_key_is_rejected() {
    let identity = Identity::generate();
    let one = identity.certified_key();
    let two = vec![one.cert[0].clone(), one.cert[0].clone()];
    let two = Arc::new(CertifiedKey::new(two, Arc::clone(&one.key)));
    let mut client = client_of(&identity);
    let resolver = AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&two));
    client.client_auth_cert_resolver = Arc::new(resolver);
    assert!(dialled_by(&node(), client).await.is_handshake());

    let mut server = server_of(&identity);
    server.cert_resolver = Arc::new(AlwaysResolvesServerRawPublicKeys::new(two));
    assert!(dialling_to(&node(), None, server).await.0.is_handshake());
}

#[tokio::test(start_paused = true)]
async fn an_impostor_is_rejected_and_learns_nothing_about_the_list() {
    let (alice, mallory) = (Identity::generate(), Identity::generate());
    let liar = impostor(&alice.certified_key().cert[0], &mallory);
    for listening in [node(), node().allow([alice.id()]), node().allow([])] {
        let mut client = client_of(&mallory);
        let resolver = AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&liar));
        client.client_auth_cert_resolver = Arc::new(resolver);
        let error = dialled_by(&listening, client).await;
        assert!(error.is_handshake(), "{error}");
        assert_eq!(error.peer(), None, "names a key that was not proven");
    }
    for expected in [None, Some(alice.id()), Some(mallory.id())] {
        let mut server = server_of(&mallory);
        let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&liar));
        server.cert_resolver = Arc::new(resolver);
        let (error, data) = dialling_to(&node(), expected, server).await;
        assert!(error.is_handshake(), "{error}");
        assert_eq!(data, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_small_order_is_rejected() {
    let mallory = Identity::generate();
    let mut spki = mallory.certified_key().cert[0].to_vec();
    spki[12..].fill(0);
    spki[12] = 1;
    let mut client = client_of(&mallory);
    let resolver = AlwaysResolvesClientRawPublicKeys::new(impostor(&spki, &mallory));
    client.client_auth_cert_resolver = Arc::new(resolver);
    let error = dialled_by(&node(), client).await;
    assert!(
        error.to_string().contains("not show one ed25519"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn tls_1_2_is_rejected() {
    let (chain, key) = x509();
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(gullible(false))
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .unwrap();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let error = dialled_by(&node(), client).await;
    assert!(error.is_handshake(), "{error}");
    assert!(error.to_string().contains("TLS 1.3"), "{error}");
    // Rejected for its version, not for a feature that the version lacks.
    let text = crate::error::report(&error).to_string();
    assert!(text.contains("Tls12NotOffered"), "{text}");

    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_client_cert_verifier(gullible(false))
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![ALPN.to_vec()];
    let (error, _) = dialling_to(&node(), None, server).await;
    assert!(error.is_handshake(), "{error}");
    let text = crate::error::report(&error).to_string();
    assert!(text.contains("ProtocolVersion"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn another_alpn_protocol_or_none_is_rejected_on_both_sides() {
    for protocols in [vec![], vec![b"h2".to_vec()], vec![b"coalescent/2".to_vec()]] {
        let mut client = client_of(&Identity::generate());
        client.alpn_protocols.clone_from(&protocols);
        let error = dialled_by(&node(), client).await;
        assert!(error.is_protocol(), "{protocols:?}: {error}");

        let mut server = server_of(&Identity::generate());
        server.alpn_protocols.clone_from(&protocols);
        let (error, data) = dialling_to(&node(), None, server).await;
        assert!(error.is_protocol(), "{protocols:?}: {error}");
        assert!(data.is_none_or(|data| data.is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_resuming_client_proves_its_key_each_time() {
    let bob = node();
    let mut client = client_of(&Identity::generate());
    client.resumption = Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    for _ in 0..3 {
        let (a, b) = duplex(4096);
        let name = ServerName::try_from(NO_NAME).unwrap();
        let connect = TlsConnector::from(Arc::clone(&client)).connect(name, b);
        let (accepted, connected) = tokio::join!(bob.accept(a), connect);
        let ((mut accepted, _), mut connected) = (accepted.unwrap(), connected.unwrap());
        accepted.write_all(b"x").await.unwrap();
        accepted.shutdown().await.unwrap();
        connected.read_u8().await.unwrap();
        let session = connected.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_with_tickets_proves_its_key_each_time() {
    let alice = node();
    let mut server = server_of(&Identity::generate());
    server.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    server.send_tls13_tickets = 2;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    for _ in 0..3 {
        let (a, b) = duplex(4096);
        let (accepted, connected) = tokio::join!(acceptor.accept(a), alice.connect(b, None));
        let (mut accepted, (mut connected, _)) = (accepted.unwrap(), connected.unwrap());
        accepted.write_all(b"x").await.unwrap();
        accepted.flush().await.unwrap();
        connected.read_u8().await.unwrap();
        let kind = accepted.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test(start_paused = true)]
async fn plaintext_fails_without_waiting_for_the_end() {
    let hello = [&[0, 0, 0, 60, 0x10, 0][..], &[b'x'; 58]].concat();
    let lines = &b"{\"type\":\"ping\",\"body\":{}}\n"[..];
    for plain in [&hello[..], lines, b"GET / HTTP/1.1\r\n\r\n", &[0xff; 9]] {
        let (mut a, b) = duplex(4096);
        a.write_all(plain).await.unwrap();
        let error = soon(node().accept(b)).await.unwrap_err();
        assert!(error.is_plaintext(), "{error}");

        let (mut a, b) = duplex(4096);
        a.write_all(plain).await.unwrap();
        let error = soon(node().connect(b, None)).await.unwrap_err();
        assert!(error.is_plaintext(), "{error}");
        assert!(error.to_string().contains("identity"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_greeted_in_tls_is_not_said_to_speak_something_else() {
    let (mut a, b) = duplex(64 * 1024);
    let hello = client_hello().await;
    a.write_all(&hello).await.unwrap();
    a.write_all(b"damaged on its way").await.unwrap();
    let error = soon(node().accept(b)).await.unwrap_err().hearing(&hello);
    assert!(error.is_handshake() && !error.is_plaintext(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_error_with_a_cause_displays_its_own_level() {
    let (mut a, b) = duplex(4096);
    a.shutdown().await.unwrap();
    let broken = soon(node().accept(b)).await.unwrap_err();
    assert!(broken.is_io(), "{broken}");
    let mut client = client_of(&Identity::generate());
    client.client_auth_cert_resolver = Arc::new(KeyLess);
    let failed = dialled_by(&node(), client).await;
    assert!(failed.is_handshake(), "{failed}");
    for error in [broken, failed] {
        crate::error::check_levels(&error);
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

/// Returns the first message of a dialling node, as sent over the socket.
async fn client_hello() -> Vec<u8> {
    let (mut a, b) = duplex(4096);
    let alice = node();
    let mut hello = vec![0; 4096];
    let length = tokio::select! {
        _ = alice.connect(b, None) => panic!("connected to nobody"),
        read = a.read(&mut hello) => read.unwrap(),
    };
    hello.truncate(length);
    hello
}

#[tokio::test(start_paused = true)]
async fn a_truncated_handshake_is_an_error() {
    let hello = client_hello().await;
    for length in [0, 1, 5, 100, hello.len() - 1, hello.len()] {
        let (mut a, b) = duplex(4096);
        a.write_all(&hello[..length]).await.unwrap();
        a.shutdown().await.unwrap();
        let error = soon(node().accept(b)).await.unwrap_err();
        assert!(error.is_io(), "{length}: {error}");
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    let (a, b) = duplex(4096);
    drop(a);
    assert!(soon(node().connect(b, None)).await.unwrap_err().is_io());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn garbage_is_an_error(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut hello = client_hello().await;
            for (at, byte) in edits {
                let at = at.index(hello.len());
                hello[at] = byte;
            }
            hello.extend(tail);
            for dialled in [true, false] {
                let (mut a, b) = duplex(8192);
                a.write_all(&hello).await.unwrap();
                a.shutdown().await.unwrap();
                let outcome = if dialled {
                    soon(node().accept(b)).await
                } else {
                    soon(node().connect(b, None)).await
                };
                assert!(outcome.is_err());
            }
        });
    }
}
