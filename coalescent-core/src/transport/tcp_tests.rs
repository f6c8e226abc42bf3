use super::*;

#[tokio::test]
async fn a_self_connection_is_refused_and_frees_the_port() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    let stream = socket.connect(addr).await.expect("it meets itself");
    let error = refuse_itself(stream).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    // Bind without SO_REUSEADDR, so that a port in TIME_WAIT would be refused.
    let late = TcpSocket::new_v4().unwrap();
    late.bind(addr).expect("a free port");
    let late = late.listen(1).unwrap();
    let (ours, theirs) = tokio::join!(connect(addr), late.accept());
    drop((ours.expect("another socket"), theirs.unwrap()));
}

#[tokio::test]
async fn the_error_names_the_failure_of_each_address() {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (a, b) = (free(), free());
    let refuse = |addr| match addr {
        addr if addr == b => Err(io::Error::other("not this one")),
        _ => Ok(()),
    };
    let permit = |_| Ok(());
    let error = Tcp.connect_any([a, b], &permit).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(text.contains(&format!("{a}: ")) && text.contains(&format!("{b}: ")));
    // The refusal is reported only if every address is refused.
    let error = Tcp.connect_any([b, a], &refuse).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let error = Tcp.connect_any([b], &refuse).await.unwrap_err();
    assert_eq!(error.to_string(), "not this one");
    let error = Tcp.connect_any([], &permit).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_silent_peer_is_detected_as_early_as_by_pings() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let seconds = Duration::from_secs;
    for (ping, answer, user_timeout, interval) in [
        (30, 20, 50, 5),
        (0, 0, 1, 1),
        (600, 100, 700, 25),
        // No limit: the previous setting stays.
        (u64::MAX, 20, 700, 25),
        (40_000, 20, 700, 25),
    ] {
        watch_silence(&stream, seconds(ping), seconds(answer));
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(seconds(user_timeout))
        );
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(interval));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
    }
    assert_eq!(
        SockRef::from(&stream).tcp_keepalive_time().unwrap(),
        seconds(600)
    );
    let boxed: BoxIo = Box::new(stream);
    let boxed: BoxIo = Box::new(boxed);
    assert!(tcp_stream(&*boxed).is_some(), "however often it is boxed");
}
