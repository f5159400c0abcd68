//! Those whom nobody has asked in, and those who behave otherwise than they should.

mod bad_input;
mod bounds;
mod crypto;
mod door;
