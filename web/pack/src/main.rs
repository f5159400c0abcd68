//! `supernode-pack WASM DIRECTORY`: writes what a page's script calls the wasm by, and the wasm that goes with it.

use std::{path::Path, process::ExitCode};

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wasm, directory] = arguments.as_slice() else {
        eprintln!("usage: supernode-pack WASM DIRECTORY");
        return ExitCode::from(2);
    };
    match pack(Path::new(wasm), Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{wasm}: cannot be packed: {why}");
            ExitCode::FAILURE
        }
    }
}

fn pack(wasm: &Path, directory: &Path) -> Result<(), String> {
    let mut bindgen = Bindgen::new();
    let made = bindgen.input_path(wasm).web(true).and_then(|bindgen| {
        // Types are said by hand (web/front/wasm.d.ts); names and producers would be a tenth of it.
        bindgen.typescript(false).remove_name_section(true).remove_producers_section(true).generate(directory)
    });
    made.map_err(|error| format!("{error:#}"))
}
