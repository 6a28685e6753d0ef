//! What every protocol needs of HTTP and what knows none of them: sockets, connections, who may ask, bodies, and how a
//! refusal is written. It comes before the protocols and uses nothing of them.

pub(crate) mod body;
pub(crate) mod guard;
pub(crate) mod listener;
pub(crate) mod patience;
pub(crate) mod refusal;
pub(crate) mod reply;
