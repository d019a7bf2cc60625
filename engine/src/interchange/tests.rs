//! Archives made by hand: what becomes of good ones, and that bad ones become nothing.

mod hostile;
mod made;
mod round_trip;
