//! The node: its database, its store and its pool.

use std::path::Path;
use std::sync::Arc;

use cove_content::volumes::Volumes;
use cove_database::{DatabaseError, NodeDatabase};
use cove_env::Env;
use cove_node::{Holding, Node, NodeOptions, StartError};
use cove_objects::{DirectoryStore, Location, S3Config, S3Store, Store, StoreUrl, parse_url};
use cove_types::{Classify, ErrorKind, NodeId, ParseError, StoreHolderId, TeamId};

use super::home::Home;
use super::pool::Opened;
use super::{HELD_BY_ANOTHER, LOOK_EVERY, database_failure, disk, opening};
use crate::args::UpArgs;
use crate::environment::{self, STORE_FILE};
use crate::failure::Failure;
use crate::output;

/// A node that runs.
pub(super) struct OwnNode {
    pub node: Node,
    pub id: NodeId,
    /// `this_disk`, or the URL of its store.
    pub saved_to: String,
}

/// Opens the node's database and the store, and starts the node on them.
pub(super) async fn start(
    args: &UpArgs,
    home: &Home,
    opened: &Opened,
    env: &Env,
) -> anyhow::Result<OwnNode> {
    let state = home.dir.join("state");
    let node_database = NodeDatabase::open(&state.join("node.db")).await.map_err(opening)?;
    let store = open_store(args, env, &node_database).await?;
    let id = node_name(args, &node_database, env).await?;
    let holder: StoreHolderId =
        kept_name(&node_database, env, "holder", "cove-").await?.parse().map_err(unusable)?;
    let pin = kept_name(&node_database, env, "pin", "").await?;
    let pin = parse_pin(&pin).map_err(unusable)?;
    let team: TeamId = "home".parse().map_err(unusable)?;
    let url = store_url(args);
    let pool = args.pool.clone().unwrap_or_else(|| home.dir.join("pool"));
    let saved_to = saved_to(store.location(), &url, [&home.dir, pool.as_path()]);
    let options = NodeOptions {
        node: id.clone(),
        holder,
        team,
        look_every: LOOK_EVERY,
        store_every: args.store_every,
        pin,
        cache: state.join("cache"),
    };
    let node = Node::start(opened.pool(), store, node_database, env.clone(), options)
        .await
        .map_err(|error| start_failure(&error))?;
    match node.holding() {
        Holding::Held => {}
        Holding::HeldByAnother { .. } => output::warn(&format!(
            "the store {}{HELD_BY_ANOTHER}: nothing is written there until `cove recover`",
            cove_types::escape_bytes(url.as_bytes())
        )),
        Holding::Unknown { why } => output::warn(&format!(
            "the store {} cannot be used, nothing is saved until it can: {}",
            cove_types::escape_bytes(url.as_bytes()),
            cove_types::escape_bytes(why.as_bytes())
        )),
    }
    tell_of_change(home, &url, &node).await;
    Ok(OwnNode { node, id, saved_to })
}

/// Says where the last store of this home is when it goes on with another one: nothing that is saved there alone is
/// found in this one.
async fn tell_of_change(home: &Home, url: &str, node: &Node) {
    let Ok(before) = std::fs::read_to_string(home.dir.join(STORE_FILE)) else { return };
    let before = before.trim_end();
    if before.is_empty() || before == url || node.list().await.is_ok_and(|all| all.is_empty()) {
        return;
    }
    let [now, before] = [url, before].map(|url| cove_types::escape_bytes(url.as_bytes()));
    output::warn(&format!(
        "the store is {now} now and was {before}: what is saved there is not in this one; to go on with \
         that one: `cove down`, then `cove up --objects {before}`"
    ));
}

/// The URL of the store, given or in the home.
pub(super) fn store_url(args: &UpArgs) -> String {
    let own = || format!("file://{}", args.home.join("objects").display());
    args.objects.clone().unwrap_or_else(own)
}

/// Where saved states are, in the words of the API: `this_disk` where the loss of a disk takes the
/// store and the files, in the home or in the pool, else the store's URL.
fn saved_to(location: Location, url: &str, files: [&Path; 2]) -> String {
    match (location, parse_url(url)) {
        (Location::ThisDisk, Ok(StoreUrl::Directory(dir))) if !disk::shares_a_disk(files, &dir) => {
            StoreUrl::Directory(dir).to_string()
        }
        (Location::ThisDisk, _) => "this_disk".to_owned(),
        (Location::Url(url), _) => url,
    }
}

/// Opens the store; a directory that had one before is never taken for a fresh one.
async fn open_store(
    args: &UpArgs,
    env: &Env,
    database: &NodeDatabase,
) -> Result<Arc<dyn Store>, Failure> {
    let url = parse_url(&store_url(args))
        .map_err(|error| Failure::caused("failed to use the object store", &error, error.kind()))?;
    let refused = |error: cove_objects::OpenError| {
        Failure::caused("failed to open the object store", &error, error.kind())
    };
    Ok(match url {
        StoreUrl::Directory(dir) => {
            let place = dir.display().to_string();
            let failed = |error: DatabaseError| {
                database_failure("failed to read the node's database", &error, error.kind())
            };
            let store = match database.was_held(&place).await.map_err(failed)? {
                true => DirectoryStore::open_known(&dir, env.clone()),
                false => DirectoryStore::open(&dir, env.clone()),
            };
            let store = store.map_err(|error| {
                let is_gone = matches!(error, cove_objects::OpenError::Gone { .. });
                let failure = refused(error);
                match is_gone {
                    true => failure.hint(format!(
                        "mount the disk that it lies on and start again; if it is gone for good, \
                         `mkdir -p {place}/objects` lets Cove begin an empty one"
                    )),
                    false => failure,
                }
            })?;
            let now_us = env.now().as_microsecond();
            database.put_held(&place, now_us).await.map_err(failed)?;
            Arc::new(store)
        }
        StoreUrl::S3 { bucket, prefix } => {
            let keys = environment::aws()?;
            let config = S3Config {
                bucket,
                prefix,
                region: keys.region,
                endpoint: keys.endpoint,
                access_key: keys.access_key,
                secret_key: keys.secret_key,
                session_token: keys.session_token,
                silence_max: args.store_timeout,
            };
            Arc::new(S3Store::open(config, env.clone()).map_err(refused)?)
        }
    })
}

/// What this node is called: as it was at the first start, since the heads of its volumes say so.
async fn node_name(args: &UpArgs, database: &NodeDatabase, env: &Env) -> Result<NodeId, Failure> {
    let failed = |error: DatabaseError| {
        database_failure("failed to read the node's database", &error, error.kind())
    };
    if let Some(wanted) = &args.csi.node_id {
        match database.find_setting("node").await.map_err(failed)? {
            None => {
                database.put_setting("node", wanted.as_str()).await.map_err(failed)?;
            }
            Some(kept) if kept == wanted.as_str() => {}
            Some(kept) => {
                let what =
                    format!("the node of this home is {kept}, and is not renamed to {wanted}");
                return Err(Failure::new(ErrorKind::Precondition, what)
                    .hint("leave out --node-id, or begin with another --home"));
            }
        }
    }
    let kept = kept_name(database, env, "node", "node-").await?;
    kept.parse().map_err(unusable)
}

fn unusable(error: ParseError) -> Failure {
    Failure::caused("a kept name cannot be used", &error, error.kind())
}

/// The standing pin as it is kept: 16 hexadecimal digits.
fn parse_pin(kept: &str) -> Result<[u8; 8], ParseError> {
    let unlawful = || ParseError(format!("a pin has 16 hexadecimal digits, found {kept:?}"));
    if kept.len() != 16 || !kept.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(unlawful());
    }
    u64::from_str_radix(kept, 16).map(u64::to_be_bytes).map_err(|_| unlawful())
}

/// A name that is made once and then kept in the node's database.
async fn kept_name(
    database: &NodeDatabase,
    env: &Env,
    name: &str,
    prefix: &str,
) -> Result<String, Failure> {
    let failed = |error: DatabaseError| {
        database_failure("failed to read the node's database", &error, error.kind())
    };
    if let Some(kept) = database.find_setting(name).await.map_err(failed)? {
        return Ok(kept);
    }
    let fresh: [u8; 8] = env.random();
    let fresh = format!("{prefix}{:016x}", u64::from_be_bytes(fresh));
    database.put_setting(name, &fresh).await.map_err(failed)?;
    Ok(fresh)
}

fn start_failure(error: &StartError) -> Failure {
    let failure = Failure::caused("failed to start", error, error.kind());
    match error {
        StartError::Database(source) => database_failure("failed to start", error, source.kind()),
        StartError::Store(unfit) if unfit.kind() == ErrorKind::Precondition => failure.hint(
            "give a bucket whose server keeps If-None-Match and If-Match and whose rules take \
             nothing away, or a directory: --objects file:///DIR",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_pin_that_is_none_is_refused_and_not_taken_for_another() {
        assert_eq!(parse_pin("00f1020304050607").unwrap(), [0, 0xf1, 2, 3, 4, 5, 6, 7]);
        for kept in ["", "0", "+0f1020304050607", "00f102030405060g", "00f10203040506071"] {
            let failure = unusable(parse_pin(kept).unwrap_err()).message();
            assert!(failure.contains("a kept name cannot be used: a pin has 16"), "{failure}");
            assert!(failure.contains(&format!("found {kept:?}")), "{failure}");
        }
    }
}
