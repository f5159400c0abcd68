//! `supernode page`

use std::{
    fs::OpenOptions,
    io::{Write, stdout},
    path::PathBuf,
};

use clap::Args;
use supernode_server::control::page::{Page as File, PageError};

use super::{
    exit::Exit,
    output::{print, say},
};

#[derive(Args)]
pub(super) struct Page {
    /// File to write the page to, which must not be there yet; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Page {
    /// Gives out the page that this program was built with.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let page = File::embedded().ok_or(PageError::Nowhere)?;
        let sha256 = page.sha256_text();
        match &self.out {
            None => return print(&format!("{sha256}\n")),
            Some(path) if path.as_os_str() == "-" => stdout().write_all(page.bytes()).map_err(Exit::Output)?,
            Some(path) => {
                let written = OpenOptions::new().write(true).create_new(true).open(path);
                let written = written.and_then(|mut file| file.write_all(page.bytes()));
                written.map_err(|source| Exit::Write { path: path.display().to_string(), source })?;
            }
        }
        say(&format!("SHA-256 {sha256}"));
        Ok(())
    }
}
