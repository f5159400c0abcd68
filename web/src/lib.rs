//! What the worker of a call page calls: the SDK, with each of its things as one class.
//!
//! Everything that happens comes by one function that the page gives at the start, as text in JSON (`told`); media come by
//! functions of their own, as bytes. What others wrote is cut to its bounds and cleaned of what steers a terminal or turns
//! text around (`text`) before it leaves here, and whatever goes wrong is told in the words of the SDK's table (`trouble`).
//!
//! It runs on one thread. What has to go on by itself is a local task.

mod incoming;
mod keys;
mod link;
mod outgoing;
mod rings;
mod room;
mod session;
mod talk;
mod text;
mod told;
mod trouble;

pub use incoming::Incoming;
pub use keys::Keys;
pub use link::look_at_link;
pub use outgoing::Outgoing;
pub use room::Room;
pub use session::Session;
pub use talk::{read_line, read_talk, write_talk};

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// A panic is a fault of ours: its place is said where developers look, and the worker is gone.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}
