//! Whether this thread is inside a simulated node: a panic there is the node's crash, not ours.

use std::cell::Cell;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn set(inside: bool) {
    INSIDE.set(inside);
}

/// True while a simulated node computes.
pub fn is() -> bool {
    INSIDE.get()
}
