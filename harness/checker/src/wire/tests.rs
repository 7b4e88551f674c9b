mod bench;
mod decoding;
mod stories;
