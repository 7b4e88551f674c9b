mod broken;
mod bugs;
mod cycles;
mod elle;
mod random;
mod reference;
mod words;
