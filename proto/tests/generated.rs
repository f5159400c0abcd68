//! The control messages as Rust, generated from the schema. What is generated is committed: who builds the relay or a client
//! needs no compiler of schemas, which is forty crates.
//!
//! After a change of the schema `SUPERNODE_BLESS=1 cargo test -p supernode-proto` writes it anew.

use std::{env, fmt::Write, fs, path::Path};

const SCHEMAS: [&str; 2] = ["schema/supernode.proto", "schema/cluster.proto"];

#[test]
fn what_is_generated_from_the_schema_is_what_is_committed() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(SCHEMAS.map(|schema| here.join(schema)), [here.join("schema")]).expect("a schema");
    let of_package = |package: &str| {
        let mut files = files.clone();
        files.file.retain(|file| file.package() == package);
        files
    };
    let names_of = |package: &str, head: &str| {
        let mut names = format!("// @generated from the schema by tests/generated.rs\n{head}: &[&str] = &[\n");
        for message in of_package(package).file.iter().flat_map(|file| &file.message_type) {
            for field in message.field.iter().filter(|field| field.oneof_index.is_some()) {
                writeln!(names, "    \"{}.{}\",", message.name(), field.name()).expect("a String takes everything");
            }
        }
        names + "];\n"
    };
    let control = "/// Every variant of the two control unions, as `Union.field`.\npub const MESSAGE_NAMES";
    let names = names_of("supernode.v1", control);
    let mails = names_of(
        "supernode.cluster.v1",
        "/// Every kind of mail between nodes, as `Mail.field`.\npub const MAIL_NAMES",
    );
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut between_nodes = prost_build::Config::new();
    between_nodes.bytes(["."]).extern_path(".supernode.v1", "crate::control").out_dir(out);
    between_nodes.compile_fds(files.clone()).expect("generated");
    prost_build::Config::new().bytes(["."]).out_dir(out).compile_fds(of_package("supernode.v1")).expect("generated");
    let read = |name: &str| fs::read_to_string(out.join(name)).expect("what was generated");
    let made = [
        ("supernode.v1.rs", read("supernode.v1.rs")),
        ("message_names.rs", names),
        ("supernode.cluster.v1.rs", read("supernode.cluster.v1.rs")),
        ("mail_names.rs", mails),
    ];
    for (name, made) in made {
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
