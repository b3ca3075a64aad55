//! Opportune's own server, with a catalog in memory that changes as fast as it is told to.
//!
//! Catalogs are made as the watch of a live cluster makes them: changes are taken one by one, and a catalog is made of them at
//! most every 20 ms, in at most a fifth of the time, on a thread that answers nobody.
#[path = "../../../../core/benches/sample/mod.rs"]
mod sample;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use clap::Parser;
use mimalloc::MiMalloc;
use opportune::{
    serve::{Config, Server, Shared, signals},
    tls::Source,
};
use opportune_core::discover::{Catalog, Inventory};
use sample::Others;
use serde_json::Value;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

/// The program's own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const PAUSE: Duration = Duration::from_millis(20);
const SHARE: u32 = 5;

/// Serves POST /mutate over TLS, with a catalog of 10,000 offers in memory, for the load bench.
#[derive(Debug, Parser)]
struct Arguments {
    /// Changes of an offer a second.
    #[arg(long, default_value_t = 0)]
    changes: u32,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where to write the certificate to trust.
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { changes, listen, ca_out } = Arguments::parse();
    tokio::runtime::Runtime::new()?.block_on(async {
        let objects = sample::cluster(sample::LARGE, Others::ForOthers);
        let mut inventory = sample::inventory(sample::LARGE, Others::ForOthers);
        let catalog: Shared<Catalog> = Arc::new(ArcSwap::from_pointee(inventory.snapshot()));
        let admin = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config::new(listen, admin, Source::SelfSigned { names: Vec::new() });
        let server = Server::bind(config, Arc::clone(&catalog)).await?;
        if let (Some(path), Some(pem)) = (&ca_out, server.ca_pem()) {
            std::fs::write(path, pem).with_context(|| format!("writing {}", path.display()))?;
        }
        if changes > 0 {
            tokio::spawn(change(inventory, objects, catalog, changes));
        }
        server.run(signals()?).await?;
        Ok(())
    })
}

/// Changes one offer after the other, for ever.
async fn change(mut inventory: Inventory, mut objects: Vec<Value>, catalog: Shared<Catalog>, rate: u32) {
    objects.retain(|object| object["kind"] == "ServiceOffer");
    // Those that the review uses stay as they are: the answer is checked.
    objects.drain(..sample::INTENTS.len());
    let begun = Instant::now();
    let mut earliest = begun;
    for number in 0_u32.. {
        let index = usize::try_from(number).unwrap_or_default() % objects.len();
        if let Some(priority) = objects.get_mut(index).and_then(|object| object.pointer_mut("/spec/priority"))
        {
            *priority = (-1 - i64::from(number % 7)).into();
        }
        if let Some(object) = objects.get(index) {
            // It was taken before, so it is well-formed.
            let _ = inventory.apply(object);
        }
        sleep_until(begun + Duration::from_secs(1) / rate * number).await;
        let now = Instant::now();
        if now < earliest {
            continue;
        }
        let made = spawn_blocking(move || {
            let made = inventory.changed();
            (inventory, made)
        });
        let Ok((back, made)) = made.await else { return };
        inventory = back;
        if let Some(made) = made {
            catalog.store(Arc::new(made));
        }
        earliest = Instant::now() + PAUSE.max(now.elapsed() * SHARE);
    }
}
