//! What an operator does to a cluster: make it, and wait until it is whole. Pure: everything goes through
//! [`crate::backend::World`] or through the text that a server answered.

pub mod parse;
