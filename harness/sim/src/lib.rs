//! Virtual time, and nodes on the fabric.
