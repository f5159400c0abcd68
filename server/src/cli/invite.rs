//! `supernode invite`

use anyhow::bail;
use clap::Args;
use supernode_proto::identity::IdentityKey;
use supernode_server::control::{
    invite::{InviteRequest, create_invite},
    serve::unix_now_s,
    state_dir::StateDir,
};

use super::{
    output::{print, print_json},
    relay::Relay,
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
    /// Good for the first device that uses the link only; that one may come back with it.
    #[arg(long)]
    once: bool,
    /// The class of limits (`admission.classes`) that the link grants; the relay must be running.
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Invite {
    /// Prints a new link.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let state = StateDir::open(&self.state.path()?)?;
        if let Some(class) = &self.class {
            self.check_class(class)?;
        }
        let request = InviteRequest {
            host: self.host.as_deref(),
            identity: self.identity.as_ref(),
            days: self.days,
            once: self.once,
            class: self.class.as_deref(),
        };
        let link = create_invite(&state, &request, unix_now_s(), rand::random())?;
        match self.json {
            true => print_json(&serde_json::json!({ "invite": link.to_string() })),
            false => print(&format!("{link}\n")),
        }
    }

    /// A link that names a class which the relay does not have would let nobody in.
    fn check_class(&self, class: &str) -> anyhow::Result<()> {
        let known: Vec<String> = Relay::of(&self.state)?.get("/classes")?;
        if known.iter().any(|name| name == class) {
            return Ok(());
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        bail!("--class {class}: the running relay has no such class in admission.classes; it has: {known}");
    }
}
