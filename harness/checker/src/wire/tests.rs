mod bench;
mod decoding;
mod recorded;
mod stories;
