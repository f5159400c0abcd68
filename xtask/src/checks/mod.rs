//! Checks that no compiler makes. Each returns everything that is wrong, a line each, and nothing if all is well.

pub mod dependencies;
pub mod docs;
pub mod purity;
pub mod requirements;
pub mod sources;
pub mod supply;
pub mod tables;

/// What is wrong, one sentence each that begins with where.
pub type Findings = Vec<String>;
