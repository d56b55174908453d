//! Owns who gets what: at a leader the nodes that subscribed, at a gateway the sockets.
//! Does not hold events. Invariant: a lost or reordered push costs a look into the history, never an event.

mod follow;
mod hub;
mod missed;
mod places;
mod repair;
mod subscribers;

pub use hub::Hub;
pub use missed::Missed;
pub use subscribers::Subscribers;
