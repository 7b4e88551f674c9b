//! The node as its shell and clients see it.
