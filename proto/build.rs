//! Generates the control messages, and the list of their names that the golden test checks itself against.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=schema/supernode.proto");
    let files = protox::compile(["schema/supernode.proto"], ["schema"])?;
    let mut names = String::from(
        "/// Every variant of the two control unions, as `Union.field`.\npub const MESSAGE_NAMES: &[&str] = &[\n",
    );
    for message in files.file.iter().flat_map(|file| &file.message_type) {
        for field in message.field.iter().filter(|field| field.oneof_index.is_some()) {
            names += &format!("    \"{}.{}\",\n", message.name(), field.name());
        }
    }
    names += "];\n";
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("message_names.rs"), names)?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
