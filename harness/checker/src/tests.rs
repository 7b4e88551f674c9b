//! Stories: what happened, and what the judge says of it.

mod bin;
mod candidates;
mod collisions;
mod consistency;
mod elements;
mod expectations;
mod losses;
mod members;
mod moved_slots;
mod reading;
mod split_brain;
mod voids;
