//! `supernode invite`

use clap::Args;
use supernode_proto::identity::IdentityKey;
use supernode_server::control::{
    invite::{InviteRequest, create_invite},
    serve::unix_now_s,
    state_dir::StateDir,
};

use super::{
    output::{print, print_json},
    state::State,
};

#[derive(Args)]
pub(super) struct Invite {
    #[command(flatten)]
    state: State,
    /// Where clients reach the relay [default: the address of its last start].
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// The only identity the link is good for (sn-id-...) [default: whoever has the link].
    #[arg(long = "for", value_name = "IDENTITY", value_parser = IdentityKey::from_text)]
    identity: Option<IdentityKey>,
    /// Days for which the link lets people in, 1 to 366.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Invite {
    /// Prints a new link.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::open(&self.state.path()?)?;
        let request = InviteRequest { host: self.host.as_deref(), identity: self.identity.as_ref(), days: self.days };
        let link = create_invite(&state, &request, unix_now_s(), rand::random())?;
        match self.json {
            true => print_json(&serde_json::json!({ "invite": link.to_string() })),
            false => print(&format!("{link}\n")),
        }
    }
}
