//! Watches one person's presence and prints every change.
//!
//! ```sh
//! SUPERNODE_INVITE="$(cat invite)" SUPERNODE_TICKET="$(cat ticket)" cargo run --example presence
//! ```

use std::{env, io::Write, sync::Arc, time::SystemTime};

use supernode_client::{
    Client, Config,
    e2ee::{Device, DeviceSecret, IdentitySecret, Pass},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let invite = env::var("SUPERNODE_INVITE")?.parse()?;
    let ticket = Pass::from_text(&env::var("SUPERNODE_TICKET")?)?;

    // Somebody new each time; a real program keeps both secrets.
    let (identity, device) = (IdentitySecret::generate(), DeviceSecret::generate());
    let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let delegation = identity.delegate(&device.public(), now_s + 24 * 3600);
    let device = Arc::new(Device::new(device, delegation)?);

    let (client, _events) = Client::connect(&invite, device, Config::default()).await?;
    let mut watch = client.watch(&ticket).await?;
    loop {
        let presence = watch.next().await?;
        writeln!(std::io::stdout(), "{:?} on {} devices", presence.state, presence.devices)?;
    }
}
