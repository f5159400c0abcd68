//! Takes the page into the program, if somebody names it: `SUPERNODE_PAGE=web/dist/supernode.html cargo build --release`.
//!
//! By a name that is given, and not by a file that may lie around: what a build contains follows from how it was asked for.

use std::{env, fs, path::Path};

const PAGE: &str = "SUPERNODE_PAGE";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={PAGE}");
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    let constant = match env::var_os(PAGE).filter(|path| !path.is_empty()) {
        None => "None".to_owned(),
        Some(path) => {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let path = fs::canonicalize(workspace.join(path))
                .expect("SUPERNODE_PAGE names a file, from the workspace's folder");
            println!("cargo::rerun-if-changed={}", path.display());
            format!("Some(include_bytes!({path:?}))")
        }
    };
    let text = format!("/// The page that this program was built with.\nconst EMBEDDED: Option<&[u8]> = {constant};\n");
    fs::write(Path::new(&out).join("page.rs"), text).expect("cargo has made the folder");
}
