//! What every protocol needs of HTTP and what knows none of them: sockets, connections, who may ask, bodies, how a request is
//! called in the log, and how a refusal is written. It comes before the protocols and uses nothing of them.

pub(crate) mod admission;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod escapes;
mod exchange;
pub(crate) mod guard;
pub(crate) mod listener;
mod patience;
pub(crate) mod places;
pub(crate) mod refusal;
pub(crate) mod reply;
pub(crate) mod request_head;
mod socket;
pub(crate) mod sse;
pub(crate) mod trace;
