//! The thread that speaks mDNS ends with its mesh. In a process of its own, because it counts the
//! threads of the process.

#![cfg(all(feature = "mdns", target_os = "linux"))]

use std::fs;
use std::net::Ipv4Addr;

use coalescent_core::{App, AppExt};
use coalescent_layers::discovery::mdns::Mdns;
use support::until;

/// Returns how many threads of this process speak mDNS.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may end before its name is read.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "mDNS_daemon").count()
}

#[tokio::test]
async fn no_thread_is_left() {
    let node = async || {
        let plugin = Mdns::new().interface(Ipv4Addr::LOCALHOST);
        App::new()
            .plugin(plugin)
            .listen("127.0.0.1:0")
            .await
            .unwrap()
    };
    let meshes = [node().await, node().await];
    until("each has a thread", || threads() == 2).await;
    let [shut_down, dropped] = meshes;
    shut_down.shutdown().await;
    assert_eq!(threads(), 1, "the shutdown waits for the thread");
    drop(dropped);
    until("both have ended", || threads() == 0).await;
}
