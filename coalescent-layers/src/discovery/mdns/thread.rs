//! The thread that speaks mDNS: it ends with what started it, and the shutdown waits for it.

use std::sync::{Arc, Mutex, PoisonError};

use mdns_sd::Receiver;
use mdns_sd::{DaemonStatus, ServiceDaemon};

/// The thread that speaks mDNS. It says goodbye and ends when this is dropped.
pub(super) struct Thread {
    handle: ServiceDaemon,
    running: Running,
}

impl Thread {
    pub(super) fn start(port: u16, running: &Running) -> Result<Self, mdns_sd::Error> {
        let handle = ServiceDaemon::new_with_port(port)?;
        running.set(State::Runs(handle.clone()));
        Ok(Self {
            handle,
            running: running.clone(),
        })
    }

    pub(super) fn handle(&self) -> &ServiceDaemon {
        &self.handle
    }

    /// Ends the thread, and waits until it has said goodbye.
    pub(super) async fn stop(self) {
        self.running.clone().stop().await;
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.running.end();
    }
}

/// The thread that runs now, if any. It is told to end once only: a second time, if it ends
/// meanwhile, is never answered.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    None,
    Runs(ServiceDaemon),
    /// Its answer is this, or that the channel ends.
    Ends(Receiver<DaemonStatus>),
}

impl Running {
    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Tells the thread to end.
    fn end(&self) -> Option<Receiver<DaemonStatus>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Runs(handle) = &*state {
            // An error means that it has ended already.
            *state = handle.shutdown().map_or(State::None, State::Ends);
        }
        match &*state {
            State::Ends(answer) => Some(answer.clone()),
            State::None | State::Runs(_) => None,
        }
    }

    /// Ends the thread, and waits until it has said goodbye.
    pub(super) async fn stop(self) {
        if let Some(answer) = self.end() {
            let _ = answer.recv_async().await;
        }
    }
}
