//! `cargo xtask world`: the whole relay and real clients under a virtual clock and a seeded network.

use supernode_world_options::Options;

use crate::workspace::{Profile, Run};

/// Builds the worlds and runs them; whether all that must hold did, and every planted fault was found.
///
/// # Errors
/// If the build fails.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    build().status()?;
    let program = Profile::Gate.directory()?.join("supernode-world");
    let (program, options) = (program.to_string_lossy(), options.words());
    let words: Vec<&str> = std::iter::once(&*program).chain(options.iter().map(String::as_str)).collect();
    match Run::new(&words).status() {
        Ok(()) => Ok(true),
        Err(error) => {
            eprintln!("{error:#}");
            Ok(false)
        }
    }
}

/// The command that builds them. It is the only one that builds a relay with faults in it, and no other program.
pub fn build() -> Run {
    let words = ["cargo", "build", "--locked", "--profile", "gate", "-p", "supernode-world", "--features", "planted"];
    Run::new(&words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checks::sources, workspace};

    #[test]
    fn no_other_program_is_built_with_faults_in_it() {
        let manifests = sources::read_all(&workspace::root(), "toml").expect("they can be read");
        let features = manifests.iter().filter(|file| file.text.contains("\nplanted = ["));
        let named: Vec<&str> = features.map(|file| file.path.as_str()).collect();
        assert_eq!(named, ["server/Cargo.toml", "world/Cargo.toml"]);
        let turned_on = manifests.iter().filter(|file| file.text.contains("\"planted\""));
        assert_eq!(turned_on.count(), 0, "nobody asks for it as for a feature that belongs there");
        let depending = manifests.iter().filter(|file| file.text.contains("supernode-world.workspace"));
        assert_eq!(depending.count(), 0, "nothing depends on the worlds");
        for profile in [Profile::Debug, Profile::Gate, Profile::Release] {
            assert!(!profile.build().shown().contains("planted"));
        }
    }
}
