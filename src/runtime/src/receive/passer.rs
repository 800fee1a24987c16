//! A helper thread that shares the application's descriptor table, for machines where
//! `pidfd_getfd` is refused (Docker's seccomp filter): it passes D to the background
//! thread by `SCM_RIGHTS`.
//!
//! Promises: no descriptor of its own stands in the application's table but for the
//! length of one send; whoever receives checks what it got, for numbers get reused.
//! Is started only where needed. Is not asked for anything else.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use flexcast_udp::unix::UnixDatagram;
use flexcast_udp::Errno;

use super::identity::Identity;
use crate::background::{lock, spawn};

/// What is to be passed, and where to.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) identity: Identity,
    /// Numbers to try first.
    pub(super) numbers: Vec<i32>,
    /// The abstract address that waits for it.
    pub(super) to: Vec<u8>,
    /// Comes with it.
    pub(super) serial: u64,
}

#[derive(Default, Debug)]
struct Orders {
    queue: Mutex<VecDeque<Order>>,
    there: Condvar,
}

/// The helper thread, as the background thread sees it.
#[derive(Clone, Debug)]
pub(super) struct Passer {
    orders: Arc<Orders>,
}

impl Passer {
    /// Starts it. The caller's descriptor table is the one it will share: to be
    /// called by a thread of the application's.
    ///
    /// # Errors
    /// `EAGAIN` where no thread could be started.
    pub(super) fn start() -> Result<Passer, Errno> {
        let orders = Arc::new(Orders::default());
        let theirs = orders.clone();
        spawn("flexcast-pass", move || loop {
            pass(&theirs.next());
        })?;
        Ok(Passer { orders })
    }

    /// Asks for a descriptor. The answer is a datagram with the serial, and with the
    /// descriptor where there is one.
    pub(super) fn order(&self, order: Order) {
        lock(&self.orders.queue).push_back(order);
        self.orders.there.notify_one();
    }
}

impl Orders {
    fn next(&self) -> Order {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(order) = queue.pop_front() {
                return order;
            }
            let waited = self.there.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn pass(order: &Order) {
    let Ok(socket) = UnixDatagram::unbound() else {
        return;
    };
    let serial = order.serial.to_ne_bytes();
    let try_number = |number: i32| {
        order.identity.is(number) && socket.send_to_with(&order.to, &serial, &[number]).is_ok()
    };
    let passed = order.numbers.iter().any(|number| try_number(*number))
        || order
            .identity
            .numbers_in("/proc/thread-self/fd")
            .into_iter()
            .any(try_number);
    if !passed {
        // Without a descriptor: it is not here.
        let _ = socket.send_to(&order.to, &serial);
    }
}
