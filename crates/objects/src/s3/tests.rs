use std::sync::OnceLock;

use cove_testkit::S3Server;

use super::*;
use crate::contract::{self, Races};

/// The server of all tests here; `None` when they may be skipped.
fn server() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    SERVER.get_or_init(S3Server::start).as_ref()
}

fn config(server: &S3Server, prefix: &str) -> S3Config {
    S3Config {
        bucket: server.bucket.clone(),
        prefix: prefix.into(),
        region: "us-east-1".into(),
        endpoint: Some(server.endpoint.clone()),
        access_key: server.access_key.clone(),
        secret_key: server.secret_key.clone(),
        session_token: None,
    }
}

mod live {
    use super::*;

    #[tokio::test]
    async fn a_real_server_keeps_the_contract() {
        let Some(server) = server() else { return };
        let store = S3Store::open(config(server, "/deep/prefix//"), Env::system()).unwrap();
        contract::keep_all(&store, "contract/", Races { racers: 8, rounds: 3 }).await;
        // The same without a prefix: its keys are the bucket's.
        let whole = S3Store::open(config(server, ""), Env::system()).unwrap();
        contract::a_list_is_in_key_order_and_complete(&whole, "whole/").await;
        let below = whole.list("deep/prefix/contract/create/", None, 10).await.unwrap();
        assert_eq!(below[0].key.as_str(), "deep/prefix/contract/create/once");
    }
}
