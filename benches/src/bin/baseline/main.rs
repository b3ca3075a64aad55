//! What the load bench measures beside the program: how fast the same stack is when it does less.
mod answers;
mod stack;

use anyhow::Result;
use axum::{Router, routing::post};
use clap::{Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf};

/// Serves POST /mutate over TLS until it is killed, for the load bench.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where to listen.
    #[arg(long, global = true, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where to write the certificate to trust.
    #[arg(long, global = true, value_name = "FILE")]
    ca_out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Fixed bytes: the body is read, and nothing else.
    Echo,
    /// The uid and the names of containers and variables are read, and nothing else; a constant patch.
    Select,
    /// The whole body is parsed into a tree; a constant patch.
    Parse,
}

fn main() -> Result<()> {
    let Arguments { what, listen, ca_out } = Arguments::parse();
    let router = match what {
        What::Echo => Router::new().route("/mutate", post(answers::echo)),
        What::Select => Router::new().route("/mutate", post(answers::select)),
        What::Parse => Router::new().route("/mutate", post(answers::parse)),
    };
    stack::serve(listen, ca_out.as_deref(), router)
}
