mod bench;
mod decoding;
mod live;
mod recorded;
mod stories;
