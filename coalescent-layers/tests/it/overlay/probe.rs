use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt};
use coalescent_layers::{Overlay, SmartRelay};
use std::time::Duration;
use tokio::time::sleep;

fn measure(name: &str, make: impl Fn(App) -> App, count: usize, join: bool, drain: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let network = Memory::new();
    let mut meshes = Vec::new();
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            let mut first = None;
            for number in 0..count {
                let mut app = make(App::new().transport(network.clone()));
                if join {
                    if let Some(first) = &first {
                        app = app.seeds([String::clone(first)]);
                    }
                }
                let mesh = app.listen("a:0").await.unwrap();
                if drain {
                    let mut events = mesh.events();
                    tokio::spawn(async move { while events.next().await.is_some() {} });
                }
                if number == 0 {
                    first = Some(mesh.local_addrs()[0].to_string());
                }
                meshes.push(mesh);
            }
            sleep(Duration::from_secs(120)).await;
        });
    });
    let degree: usize = meshes.iter().map(|mesh| mesh.peers().len()).sum();
    println!(
        "{name}: {:.1} KiB a node, degree {:.1}, peak {:.1}",
        info.bytes_current as f64 / 1024.0 / count as f64,
        degree as f64 / count as f64,
        info.bytes_max as f64 / 1024.0 / count as f64
    );
    if join {
        use coalescent_layers::OverlayExt;
        let info = allocation_counter::measure(|| {
            runtime.block_on(async {
                sleep(Duration::from_secs(1200)).await;
            });
        });
        println!(
            "   20 minutes later: {:+.1}",
            info.bytes_current as f64 / 1024.0 / count as f64
        );
        if let Some(stats) = meshes[count / 2].overlay() {
            println!("   {stats:?}");
        }
    }
}

#[test]
fn probe() {
    measure("bare", |app| app, 50, false, false);
    measure("bare, events read", |app| app, 50, false, true);
    measure(
        "relay",
        |app| app.plugin(SmartRelay::new()),
        50,
        false,
        false,
    );
    measure(
        "overlay alone",
        |app| app.plugin(SmartRelay::new()).plugin(Overlay::new().seed(1)),
        50,
        false,
        false,
    );
    let seeds = std::sync::atomic::AtomicU64::new(1);
    let overlay = || Overlay::new().seed(seeds.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    measure(
        "overlay",
        |app| app.plugin(SmartRelay::new()).plugin(overlay()),
        50,
        true,
        false,
    );
    measure(
        "overlay, events read",
        |app| app.plugin(SmartRelay::new()).plugin(overlay()),
        50,
        true,
        true,
    );
}
