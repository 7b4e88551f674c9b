//! Every check against a reference that tries all orders, on histories small enough for that.

// The reference's steps share one shape, whatever the size of the state.
#![allow(clippy::trivially_copy_pass_by_ref)]

mod objects;
mod random;
mod reference;
mod register;
mod stories;
