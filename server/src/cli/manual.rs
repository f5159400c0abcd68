//! `supernode man` and `supernode completions`: from the same definition as the help.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, exit::Exit, output::print};

#[derive(Args)]
pub(super) struct Man {
    /// The command that the page is about [default: all of them, briefly].
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl Man {
    /// Prints a manual page in roff: `supernode man | man -l -` shows it.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut program = Cli::command();
        program.build();
        let page = match &self.command {
            None => &program,
            Some(name) => program.find_subcommand(name).ok_or_else(|| Exit::NoCommand { name: name.clone() })?,
        };
        let mut roff = Vec::new();
        clap_mangen::Man::new(page.clone()).render(&mut roff)?;
        print(&String::from_utf8(roff)?)
    }
}

#[derive(Args)]
pub(super) struct Completions {
    /// Whose completions.
    shell: Shell,
}

impl Completions {
    /// Prints a script that completes this program's commands and options.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "supernode", &mut script);
        print(&String::from_utf8(script)?)
    }
}
