//! How many connections there may be, and which of them gives way.
//!
//! Who opens connections and asks nothing must not keep out who asks: when all places are taken, the connection that has been
//! without a request for longest is closed for the next one. A connection with a request keeps its place whatever comes. When
//! all have one, the next connection gets a reserved place, in which only questions are answered that cost nothing, such as
//! whether the server lives; everything else is told to come back.
//!
//! All places cannot be one client's: an address that has its part of them exchanges its own. It is a large part, since behind
//! one address may be everybody, when a proxy or the server of a page is in between, and nobody is turned away for it as long
//! as one of these connections is idle.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Connections beyond the limit, for questions that cost nothing.
const RESERVED: usize = 32;

pub(crate) struct Places {
    most: usize,
    most_of_one_peer: usize,
    table: Mutex<Table>,
    /// Somebody has left, or is idle now.
    freed: Notify,
}

#[derive(Default)]
struct Table {
    taken: HashMap<u64, Taken>,
    next_id: u64,
}

struct Taken {
    peer: IpAddr,
    reserved: bool,
    state: State,
    closed: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has looked yet whether a request has come with it.
    New,
    Idle(Instant),
    Busy,
}

/// One connection's place; given back when dropped.
pub(crate) struct Place {
    id: u64,
    peer: IpAddr,
    places: Arc<Places>,
    reserved: bool,
    closed: Arc<Notify>,
}

impl Places {
    /// For `most` connections.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let (table, freed) = (Mutex::default(), Notify::new());
        Arc::new(Self { most, most_of_one_peer: most - most / 4, table, freed })
    }

    /// A place for a connection from this address, as soon as there is one. Only one task may wait for that.
    pub(crate) async fn take(self: &Arc<Self>, address: IpAddr) -> Place {
        loop {
            if let Some(place) = self.try_take(peer(address)) {
                return place;
            }
            self.freed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut table = self.lock();
        let of_peer = |taken: &Taken| !taken.reserved && taken.peer == peer;
        let ordinary = |taken: &Taken| !taken.reserved;
        let reserved = if table.count(of_peer) >= self.most_of_one_peer {
            !table.close_longest_idle(of_peer)
        } else {
            table.count(ordinary) >= self.most && !table.close_longest_idle(ordinary)
        };
        let is_reserved = |taken: &Taken| taken.reserved;
        if reserved && table.count(is_reserved) >= RESERVED && !table.close_longest_idle(is_reserved) {
            return None;
        }
        let id = table.next_id;
        table.next_id += 1;
        let closed = Arc::new(Notify::new());
        let taken = Taken { peer, reserved, state: State::New, closed: Arc::clone(&closed) };
        table.taken.insert(id, taken);
        Some(Place { id, peer, places: Arc::clone(self), reserved, closed })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&self, which: impl Fn(&Taken) -> bool) -> usize {
        self.taken.values().filter(|taken| which(taken)).count()
    }

    /// Gives a place to somebody else; `false` if none of these is idle.
    fn close_longest_idle(&mut self, which: impl Fn(&Taken) -> bool) -> bool {
        let idle =
            self.taken.iter().filter(|(_, taken)| which(taken)).filter_map(|(id, taken)| match taken.state {
                State::Idle(since) => Some((since, *id)),
                State::New | State::Busy => None,
            });
        let Some(taken) = idle.min().and_then(|(_, id)| self.taken.remove(&id)) else { return false };
        taken.closed.notify_one();
        true
    }
}

impl Place {
    /// Whether only what costs nothing may be asked here.
    pub(crate) fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Whose connection it is: an address, or the network of a client that has many.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Resolves when the place was given to somebody else.
    pub(crate) async fn lost(&self) {
        self.closed.notified().await;
    }

    /// A request has come; `false` if the place is lost. From now on it cannot be lost.
    pub(crate) fn begin(&self) -> bool {
        let mut table = self.places.lock();
        table.taken.get_mut(&self.id).map(|taken| taken.state = State::Busy).is_some()
    }

    /// There is no request, or it is answered.
    pub(crate) fn end(&self) {
        let mut table = self.places.lock();
        if let Some(taken) = table.taken.get_mut(&self.id)
            && !matches!(taken.state, State::Idle(_))
        {
            taken.state = State::Idle(Instant::now());
            self.places.freed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
        self.places.freed.notify_one();
    }
}

/// Whose connection it is. A client of IPv6 usually has a whole network of addresses.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn take(places: &Arc<Places>, address: &str) -> Place {
        places.take(address.parse().unwrap()).now_or_never().unwrap()
    }

    fn is_lost(place: &Place) -> bool {
        !place.places.lock().taken.contains_key(&place.id)
    }

    /// Different addresses, so that no one of them has too many.
    fn several(places: &Arc<Places>, number: usize) -> Vec<Place> {
        (0..number).map(|index| take(places, &format!("192.0.2.{index}"))).collect()
    }

    #[test]
    fn the_one_that_is_idle_for_longest_gives_way_and_none_with_a_request() {
        let places = Places::new(4);
        let old = several(&places, 4);
        for index in [2, 0, 3, 1] {
            old[index].end();
        }
        assert!(old[2].begin());
        let new = take(&places, "198.51.100.1");
        assert!(!new.is_reserved() && is_lost(&old[0]) && !old[0].begin());
        assert!(old[0].lost().now_or_never().is_some());
        // An answer that has just ended makes it the last in line.
        old[3].begin();
        old[3].end();
        let _newer = take(&places, "198.51.100.2");
        assert!(is_lost(&old[1]) && !is_lost(&old[2]) && !is_lost(&old[3]));
    }

    #[test]
    fn beyond_requests_everywhere_places_are_reserved_and_these_are_exchanged_too() {
        let places = Places::new(4);
        let busy = several(&places, 4);
        assert!(busy.iter().all(Place::begin));
        let reserved = several(&places, RESERVED);
        assert!(reserved.iter().all(Place::is_reserved));
        // Nobody has looked yet what they want.
        assert!(places.take("::1".parse().unwrap()).now_or_never().is_none());
        reserved[7].end();
        assert!(take(&places, "::1").is_reserved() && is_lost(&reserved[7]));
        assert!(!busy.iter().any(is_lost));
        drop(busy);
        assert!(!take(&places, "::1").is_reserved());
    }

    #[tokio::test]
    async fn whoever_waits_for_a_place_gets_the_first_that_is_free() {
        let places = Places::new(1);
        let mut all = several(&places, 1 + RESERVED);
        let mut waiting = Box::pin(places.take("::1".parse().unwrap()));
        assert!((&mut waiting).now_or_never().is_none());
        all.swap_remove(0);
        assert!(!waiting.await.is_reserved());
    }

    #[test]
    fn one_address_exchanges_its_own_when_it_has_its_part() {
        let places = Places::new(8);
        let greedy: Vec<_> = (0..6).map(|index| take(&places, &format!("2001:db8::{index}"))).collect();
        let other = take(&places, "192.0.2.1");
        other.end();
        greedy.iter().skip(1).for_each(Place::end);
        // The other one has been idle for longer, and there is even a free place.
        let seventh = take(&places, "2001:db8::7");
        assert!(is_lost(&greedy[1]) && !is_lost(&other) && !seventh.is_reserved());
        assert!(greedy.iter().skip(2).all(Place::begin) && seventh.begin());
        assert!(take(&places, "2001:db8::8").is_reserved());
        assert!(!take(&places, "2001:db8:0:1::1").is_reserved());
        assert!(!is_lost(&other));
    }

    #[test]
    fn a_limit_of_one_is_one() {
        let places = Places::new(1);
        let first = take(&places, "127.0.0.1");
        first.begin();
        assert!(take(&places, "127.0.0.1").is_reserved());
        first.end();
        assert!(!take(&places, "127.0.0.1").is_reserved() && is_lost(&first));
    }

    #[test]
    fn an_address_is_the_same_in_both_notations() {
        let address = |text: &str| peer(text.parse().unwrap());
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_ne!(address("192.0.2.8"), address("192.0.2.7"));
    }
}
