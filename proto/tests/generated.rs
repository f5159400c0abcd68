//! The control messages as Rust, generated from the schema. What is generated is committed: who builds the relay or a client
//! needs no compiler of schemas, which is forty crates.
//!
//! After a change of the schema `SUPERNODE_BLESS=1 cargo test -p supernode-proto` writes it anew.

use std::{env, fmt::Write, fs, path::Path};

#[test]
fn what_is_generated_from_the_schema_is_what_is_committed() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([here.join("schema/supernode.proto")], [here.join("schema")]).expect("a schema");
    let mut names = String::from(
        "// @generated from the schema by tests/generated.rs\n\
         /// Every variant of the two control unions, as `Union.field`.\npub const MESSAGE_NAMES: &[&str] = &[\n",
    );
    for message in files.file.iter().flat_map(|file| &file.message_type) {
        for field in message.field.iter().filter(|field| field.oneof_index.is_some()) {
            writeln!(names, "    \"{}.{}\",", message.name(), field.name()).expect("a String takes everything");
        }
    }
    names += "];\n";
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    prost_build::Config::new().bytes(["."]).out_dir(out).compile_fds(files).expect("generated");
    let messages = fs::read_to_string(out.join("supernode.v1.rs")).expect("what was generated");
    for (name, made) in [("supernode.v1.rs", messages), ("message_names.rs", names)] {
        let committed = here.join("generated").join(name);
        if env::var_os("SUPERNODE_BLESS").is_some() {
            fs::create_dir_all(here.join("generated")).expect("a directory");
            fs::write(&committed, made).expect("written");
            continue;
        }
        let known = fs::read_to_string(&committed).unwrap_or_default();
        assert!(known == made, "{name} is not of this schema: SUPERNODE_BLESS=1 cargo test -p supernode-proto");
    }
}
