//! The flags of what serves: `up`, `hub` and `node`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use cove_types::NodeId;

use super::values::{
    parse_address, parse_bytes, parse_compat, parse_duration, parse_endpoint, parse_node_id,
    parse_registration, parse_socket, parse_volumes_max,
};

/// The flags of `up`, as written; what is absent may stand in the environment.
#[derive(Debug, Clone, Args)]
#[command(after_help = "What is to be the same each time may stand in the environment instead:\n\
    COVE_HOME, COVE_LISTEN, COVE_POOL_BYTES, COVE_POOL, COVE_OBJECTS.\n\n\
    A bucket, which must be there, needs AWS_ACCESS_KEY_ID and\n\
    AWS_SECRET_ACCESS_KEY. AWS_REGION [us-east-1], AWS_ENDPOINT_URL [that of AWS]\n\
    and AWS_SESSION_TOKEN are read too.\n\n\
    Examples:\n\
    \x20 cove up\n\
    \x20 cove up --detach --pool-bytes 20GiB\n\
    \x20 cove up --detach --objects s3://bucket/prefix --store-every 5s")]
pub struct UpFlags {
    /// Return when it serves, and log to HOME/cove.log
    #[arg(long)]
    pub detach: bool,
    /// Where everything lies [default: ~/.local/share/cove]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub home: Option<PathBuf>,
    /// Where the API listens, on loopback [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub disk: DiskFlags,
    #[command(flatten)]
    pub csi: CsiFlags,
}

/// What a node stands on.
#[derive(Debug, Clone, Args)]
pub struct DiskFlags {
    /// Its first size in bytes, or with KiB, MiB, GiB, TiB, PiB, EiB [default: 1/4 of what is free, 4 GiB at least]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub pool_bytes: Option<u64>,
    /// A directory on btrfs as the pool [default: a loop file in the home]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub pool: Option<PathBuf>,
    /// The object store, file:///DIR or s3://BUCKET/PREFIX [default: file://HOME/objects]
    #[arg(long, value_name = "URL")]
    pub objects: Option<String>,
    /// How often changes are saved by themselves: a number with ms, s, min or h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub store_every: Duration,
    /// How long an S3 store may be silent
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub store_timeout: Duration,
}

/// The flags of `hub`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "`cove up` has a node beside it; `cove node` is one in a process of its own.\n\n\
    Examples:\n\
    \x20 cove hub --home /srv/hub --listen unix:///run/cove/hub.sock"
)]
pub struct HubFlags {
    /// Where its database and its sockets lie [default: ~/.local/share/cove]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub home: Option<PathBuf>,
    /// Where the Volume Hub is served [default: unix://HOME/hub.sock]
    #[arg(long, value_name = "unix:///PATH", value_parser = parse_endpoint)]
    pub listen: Option<PathBuf>,
    /// Where the API listens, on loopback [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub http_listen: Option<SocketAddr>,
}

/// The flags of `node`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "COVE_HOME, COVE_POOL_BYTES, COVE_POOL, COVE_OBJECTS and the variables of the\n\
    store are read as `cove up` reads them.\n\n\
    Examples:\n\
    \x20 cove node --home /srv/node --hub unix:///run/cove/hub.sock"
)]
pub struct NodeFlags {
    /// Where its pool and its database lie [default: ~/.local/share/cove]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub home: Option<PathBuf>,
    /// The Volume Hub that it belongs to
    #[arg(long, value_name = "unix:///PATH", value_parser = parse_socket)]
    pub hub: PathBuf,
    #[command(flatten)]
    pub disk: DiskFlags,
    #[command(flatten)]
    pub csi: CsiFlags,
}

/// How the Container Storage Interface is served.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Container Storage Interface")]
pub struct CsiFlags {
    /// Serve it at this socket: Identity, Controller, GroupController and Node
    #[arg(long, value_name = "unix:///PATH", value_parser = parse_endpoint)]
    pub csi_endpoint: Option<PathBuf>,
    /// Serve Controller and GroupController at this one instead
    #[arg(long, value_name = "unix:///PATH", value_parser = parse_endpoint, requires = "csi_endpoint")]
    pub csi_controller_endpoint: Option<PathBuf>,
    /// The version whose capabilities are announced, 1.12 or 1.13
    #[arg(long, value_name = "VERSION", default_value = "1.12", value_parser = parse_compat)]
    pub csi_compat: cove_csi::Compat,
    /// The most volumes that are published on this node, at least 1 [default: any number]
    #[arg(long, value_name = "N", value_parser = parse_volumes_max)]
    pub csi_volumes_max: Option<NonZeroU32>,
    /// Tell kubelet of the driver in its directory of plugins, mostly /var/lib/kubelet/plugins_registry
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, value_parser = parse_registration, requires = "csi_endpoint")]
    pub csi_registration: Option<PathBuf>,
    /// Answer GET /healthz at this address
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, requires = "csi_endpoint")]
    pub csi_healthz: Option<SocketAddr>,
    /// What this node is called; chosen at the first start [default: by chance]
    #[arg(long, value_name = "ID", value_parser = parse_node_id)]
    pub node_id: Option<NodeId>,
}

/// What `up` is to do, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpArgs {
    /// Where everything lies.
    pub home: PathBuf,
    /// Where the API listens besides its unix socket.
    pub listen: SocketAddr,
    /// The size of the pool to begin with; chosen by the free space when absent.
    pub pool_bytes: Option<u64>,
    /// A directory on btrfs to use as the pool.
    pub pool: Option<PathBuf>,
    /// The URL of the object store; `file://<home>/objects` when absent.
    pub objects: Option<String>,
    /// How often changed projects are stored by themselves.
    pub store_every: Duration,
    /// The longest silence of an S3 store, after which it does not answer.
    pub store_timeout: Duration,
    /// Whether to return when it serves.
    pub detach: bool,
    /// How many counted entries stay in a project, 1 to 200.
    pub keep: u32,
    /// How the Container Storage Interface is served.
    pub csi: CsiFlags,
}

/// What `hub` is to do, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubArgs {
    /// Where everything lies.
    pub home: PathBuf,
    /// The socket of the Volume Hub.
    pub socket: PathBuf,
    /// Where the API listens besides its unix socket.
    pub http_listen: SocketAddr,
    /// How many counted entries stay in a project, 1 to 200.
    pub keep: u32,
}
