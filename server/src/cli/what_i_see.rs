//! `supernode what-i-see`

use clap::Args;
use supernode_server::control::what_i_see;

use super::output::{print, print_json, terminal_width};

#[derive(Args)]
pub(super) struct WhatISee {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl WhatISee {
    /// Prints the ledger of metadata.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self.json {
            true => print_json(&what_i_see::LEDGER),
            false => print(&what_i_see::table(terminal_width())),
        }
    }
}
