//! The edge: the thread that speaks mDNS, what it is told, and what is made of what it tells.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coalescent_core::event::Escaped;
use coalescent_core::{Address, Error, Mesh, Source, Suggestion, WeakMesh};
use mdns_sd::IfKind;
use mdns_sd::IfPredicate;
use mdns_sd::Receiver;
use mdns_sd::{Metrics, ResolvedService, ServiceEvent, ServiceInfo, TxtProperty};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::announce::{self, Place, Scope};
use super::found::{Heard, Known, Own};
use super::thread::{Running, Thread};
use super::{HEARD_WITHIN, LISTENS_WITHIN, MAX_RECORDS, MAX_TIMERS, Mdns, PAUSE, SERVICE, TICK};

/// How often all instances are suggested again, if the mesh knows nobody else to dial.
const AGAIN: Duration = Duration::from_secs(60);

/// How often a node that does not listen yet is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Announces the node and looks for others, until the mesh has ended.
pub(super) async fn run(mesh: WeakMesh, options: Mdns, running: Running) {
    listens(&mesh).await;
    let mut health = Health::default();
    loop {
        match session(&mesh, &options, &running, &mut health).await {
            End::Gone => return,
            End::Again => {}
            End::Failed(why) => {
                let Some(mesh) = mesh.upgrade() else { return };
                health.fails(&mesh, why);
                drop(mesh);
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for a while until the node listens.
async fn listens(mesh: &WeakMesh) {
    let deadline = Instant::now() + LISTENS_WITHIN;
    while Instant::now() < deadline
        && mesh
            .upgrade()
            .is_some_and(|mesh| mesh.local_addrs().is_empty())
    {
        sleep(LOOK_EVERY).await;
    }
}

/// Why a session has ended.
enum End {
    /// The mesh has ended.
    Gone,
    /// The node listens elsewhere now, or could not be heard for a while.
    Again,
    /// It does not work.
    Failed(String),
}

/// Whether it works. A failure is reported once, until it has worked again.
#[derive(Debug, Default)]
struct Health {
    failing: bool,
}

impl Health {
    fn fails(&mut self, mesh: &Mesh, why: String) {
        if !std::mem::replace(&mut self.failing, true) {
            mesh.peers().report(Error::plugin(why));
        }
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("mDNS works now");
        }
    }
}

/// Runs one thread of mDNS for a node that listens at the same addresses all the time.
async fn session(weak: &WeakMesh, options: &Mdns, running: &Running, health: &mut Health) -> End {
    let Some(mesh) = weak.upgrade() else {
        return End::Gone;
    };
    let mut session = match Session::start(&mesh, options, running) {
        Ok(session) => session,
        Err(error) => return End::Failed(format!("mDNS cannot be started: {error}")),
    };
    drop(mesh);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = loop {
        tokio::select! {
            event = session.events.recv_async() => {
                let Some(mesh) = weak.upgrade() else { break End::Gone };
                match event {
                    Ok(ServiceEvent::ServiceResolved(service)) => {
                        session.hear(&mesh, &service, health);
                    }
                    Ok(ServiceEvent::ServiceRemoved(_, name)) => session.known.forget(&name),
                    Ok(_) => {}
                    // It also ends when its queue of events is full.
                    Err(_) => break End::Failed(
                        "mDNS has ended, or others announce more than this node can take".to_owned()
                    ),
                }
            }
            _ = tick.tick() => {
                let Some(mesh) = weak.upgrade() else { break End::Gone };
                if let Some(end) = session.look(&mesh, health) {
                    break end;
                }
            }
        }
    };
    session.daemon.stop().await;
    end
}

struct Session {
    daemon: Thread,
    events: Receiver<ServiceEvent>,
    /// The answer to the last question for what the thread keeps.
    metrics: Option<Receiver<Metrics>>,
    own: Own,
    scope: Scope,
    /// Whether the thread speaks on an interface that is not loopback.
    beyond_loopback: Arc<AtomicBool>,
    known: Known,
    /// When the mesh is asked next whether it wants to hear of all of them again.
    again_at: Instant,
    started: Instant,
    /// When the node is to be heard by itself at the latest; `None` once it was, and if it
    /// announces nothing.
    heard_by: Option<Instant>,
}

impl Session {
    fn start(mesh: &Mesh, options: &Mdns, running: &Running) -> Result<Self, mdns_sd::Error> {
        let config = mesh.peers().config();
        let own = Own {
            node: mesh.id(),
            network: config.network.clone(),
            key: mesh.public_key(),
            loopback: true,
        };
        let scope = Scope {
            chosen: options.interfaces.clone(),
            listening: mesh.local_addrs(),
        };
        let places = announce::places(&scope.listening, config.advertise.as_deref());
        let beyond_loopback = Arc::new(AtomicBool::new(false));
        let daemon = Thread::start(options.port, running)?;
        let handle = daemon.handle();
        // Before anything else, so that nothing is said on other interfaces.
        handle.disable_interface(outside(scope.clone(), Arc::clone(&beyond_loopback)))?;
        let events = handle.browse(SERVICE)?;
        for (number, place) in places.iter().enumerate() {
            handle.register(service(&own, &scope, number, place)?)?;
        }
        let started = Instant::now();
        Ok(Self {
            events,
            metrics: None,
            own,
            scope,
            beyond_loopback,
            known: Known::default(),
            again_at: started + AGAIN,
            started,
            heard_by: (!places.is_empty()).then(|| started + HEARD_WITHIN),
            daemon,
        })
    }

    fn hear(&mut self, mesh: &Mesh, service: &ResolvedService, health: &mut Health) {
        self.own.loopback = !self.beyond_loopback.load(Ordering::Relaxed);
        let name = service.get_fullname();
        match self.own.judge(service) {
            Heard::Itself => {
                self.heard_by = None;
                health.works();
            }
            Heard::Other(why) => tracing::debug!(name = %Escaped(name), "not a peer: {why}"),
            Heard::Peer(addresses) => {
                tracing::debug!(name = %Escaped(name), ?addresses, "found by mDNS");
                if self.known.admit(name, &addresses) {
                    suggest(mesh, addresses);
                } else {
                    tracing::debug!(name = %Escaped(name), "too many are known already");
                }
            }
        }
    }

    /// Looks whether all is well; returns why the session ends otherwise.
    fn look(&mut self, mesh: &Mesh, health: &mut Health) -> Option<End> {
        if mesh.local_addrs() != self.scope.listening {
            return Some(End::Again);
        }
        if let Some(heard_by) = self.heard_by
            && Instant::now() >= heard_by
        {
            health.fails(mesh, self.deaf());
            if self.started.elapsed() >= PAUSE {
                return Some(End::Again);
            }
        }
        // The mesh forgets who could not be reached; the thread tells of nobody twice.
        if Instant::now() >= self.again_at {
            self.again_at = Instant::now() + AGAIN;
            if mesh.wanted().now() > 0 {
                suggest(mesh, self.known.addresses().cloned());
            }
        }
        let kept = self
            .metrics
            .take()
            .and_then(|answer| answer.try_recv().ok());
        if kept.is_some_and(|metrics| is_flooded(&metrics)) {
            let why = format!(
                "others announce more than {MAX_RECORDS} records by mDNS: it pauses for {PAUSE:?}"
            );
            return Some(End::Failed(why));
        }
        // An error means that the thread has ended, of which the events tell, or is busy.
        self.metrics = self.daemon.handle().get_metrics().ok();
        None
    }

    fn deaf(&self) -> String {
        let mut text = format!(
            "mDNS: this node has not heard itself within {HEARD_WITHIN:?}, so others do not find it"
        );
        if self.scope.chosen.is_empty() {
            text += ": no interface that it listens on allows multicast";
        } else {
            text += " on ";
            let names: Vec<_> = self.scope.chosen.iter().map(ToString::to_string).collect();
            text += &names.join(", ");
            text += ": there is no such interface, it allows no multicast, or this node does not listen there";
        }
        text += ", or a firewall or a lack of permission forbids it";
        text
    }
}

/// Returns whether the thread keeps more than it should.
fn is_flooded(metrics: &HashMap<String, i64>) -> bool {
    let cached = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("cached-"));
    let records = cached.fold(0, |sum: i64, (_, count)| sum.saturating_add(*count));
    records > MAX_RECORDS
        || metrics
            .get("timer")
            .is_some_and(|timers| *timers > MAX_TIMERS)
}

fn suggest(mesh: &Mesh, addresses: impl IntoIterator<Item = Address>) {
    for address in addresses {
        mesh.suggest(Suggestion::new(address, Source::MDNS));
    }
}

/// The interfaces on which nothing is to be said. Notes whether others than loopback are left.
fn outside(scope: Scope, beyond_loopback: Arc<AtomicBool>) -> IfKind {
    IfKind::Predicate(IfPredicate::new(move |interface| {
        let ip: IpAddr = interface.ip();
        let inside = scope.includes(&interface.name, ip);
        if inside && !ip.is_loopback() {
            beyond_loopback.store(true, Ordering::Relaxed);
        }
        !inside
    }))
}

/// Returns what is announced for a place.
fn service(
    own: &Own,
    scope: &Scope,
    number: usize,
    place: &Place,
) -> Result<ServiceInfo, mdns_sd::Error> {
    let name = announce::instance(own.node, number);
    let ips: Vec<IpAddr> = place.ips.iter().copied().collect();
    let values = announce::values(&own.network, own.node, own.key);
    let values: Vec<TxtProperty> = values.into_iter().map(TxtProperty::from).collect();
    let host = format!("{name}.local.");
    let mut service = ServiceInfo::new(SERVICE, &name, &host, &ips[..], place.port, values)?;
    // Its name is random, and as long as a UUID. Probing would let others take it away.
    service.set_requires_probe(false);
    if place.any != announce::Any::None {
        service = service.enable_addr_auto();
        let (any, scope) = (place.any, scope.clone());
        service.set_interfaces(vec![IfKind::Predicate(IfPredicate::new(
            move |interface| {
                let ip = interface.ip();
                any.includes(ip) && scope.includes(&interface.name, ip)
            },
        ))]);
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_thread_keeps_is_counted() {
        let metrics = |kept: &[(&str, i64)]| -> HashMap<String, i64> {
            kept.iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let half = MAX_RECORDS / 2;
        let flooded = |kept: &[_]| is_flooded(&metrics(kept));
        assert!(!flooded(&[]));
        assert!(!flooded(&[
            ("cached-ptr", half),
            ("cached-txt", half),
            ("browse", i64::MAX)
        ]));
        assert!(flooded(&[("cached-ptr", half), ("cached-txt", half + 1)]));
        assert!(flooded(&[
            ("cached-ptr", i64::MAX),
            ("cached-addr", i64::MAX)
        ]));
        assert!(!flooded(&[("timer", MAX_TIMERS)]) && flooded(&[("timer", MAX_TIMERS + 1)]));
    }
}
