use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use cove_env::Env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::fake::FakeHub;
use crate::registration::tests as registration;
use crate::{Compat, Options};

/// Probes of a driver on some node are answered.
struct Served {
    address: SocketAddr,
    hub: Arc<FakeHub>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Served {
    async fn start(node: &str, registration: Option<RegistrationState>) -> Self {
        let hub = Arc::new(FakeHub::default());
        let options = Options {
            node: node.parse().unwrap(),
            compat: Compat::V1_12,
            version: "1.2.3",
            volumes_per_node_max: None,
            home: "/nowhere".into(),
        };
        let csi = Csi::new(Arc::clone(&hub) as _, options, Env::system());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let until = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve_healthz(listener, csi, registration, until));
        Self { address, hub, stop, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The whole answer to some bytes, up to the end of the connection.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut connection = self.connect().await;
        connection.write_all(bytes).await.unwrap();
        let mut came = Vec::new();
        // what is refused is reset when there is more of it than was read
        let _ = connection.read_to_end(&mut came).await;
        String::from_utf8(came).unwrap()
    }

    /// The status and the line that a request is answered with.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let came = self.send(request.as_bytes()).await;
        let status = came.split(' ').nth(1).unwrap().parse().unwrap();
        (status, came.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn probe(&self) -> (u16, String) {
        self.ask("GET", "/healthz").await
    }
}

#[tokio::test]
async fn a_driver_that_is_well_says_ok() {
    let served = Served::start("n1", None).await;
    for path in ["/healthz", "/healthz?verbose", "http://node/healthz"] {
        assert_eq!(served.ask("GET", path).await, (200, "ok\n".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn nothing_else_is_there() {
    let served = Served::start("n1", None).await;
    for path in ["/", "/healthz/", "/metrics", "//healthz"] {
        assert_eq!(served.ask("GET", path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "MINE"] {
        assert_eq!(served.ask(method, "/healthz").await.0, 405, "{method}");
    }
    let head = served.send(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nallow: GET\r\n"), "{head}");
    assert_eq!(served.hub.room_asked.load(Relaxed), 0);
}

#[tokio::test]
async fn a_node_that_the_hub_does_not_know_is_not_well_and_the_log_says_why() {
    let served = Served::start("n2", None).await;
    let why = "the Hub does not tell what room this node has: the log says why\n";
    assert_eq!(served.probe().await, (503, why.to_owned()));
}

#[tokio::test]
async fn a_registration_that_failed_is_told_and_is_nothing_to_restart_for() {
    let mut kubelet = registration::Served::start().await;
    let served = Served::start("n1", Some(kubelet.state.clone())).await;
    let ok = (200, "ok\n".to_owned());
    assert_eq!(served.probe().await, ok);
    kubelet.notify(false, "a secret").await;
    let told =
        "ok, but kubelet has not registered the driver and is asked again: the log says why\n";
    assert_eq!(served.probe().await, (200, told.to_owned()));
    kubelet.notify(true, "").await;
    assert_eq!(served.probe().await, ok);
}

#[tokio::test(start_paused = true)]
async fn a_silent_hub_is_not_well_after_3_s_and_is_asked_once() {
    let served = Served::start("n1", None).await;
    served.hub.is_silent.store(true, Relaxed);
    let begun = Instant::now();
    for _ in 0..5 {
        let why = "the Hub does not tell within 3 s what room this node has\n";
        assert_eq!(served.probe().await, (503, why.to_owned()));
    }
    let took = begun.elapsed();
    assert!((15..17).contains(&took.as_secs()), "{took:?}");
    assert_eq!(served.hub.room_asked.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_cut_off_after_5_s() {
    let served = Served::start("n1", None).await;
    for begin in [&b""[..], b"GET /heal", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let begun = Instant::now();
        assert_eq!(served.send(begin).await, "");
        let took = begun.elapsed();
        assert!((5..7).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test]
async fn a_head_of_more_than_8_kib_is_refused_and_a_body_is_not_waited_for() {
    let served = Served::start("n1", None).await;
    let long = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES_MAX));
    let refused = served.send(long.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
    let body = b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    assert!(served.send(body).await.starts_with("HTTP/1.1 405 "));
    assert_eq!(served.probe().await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn many_who_are_silent_do_not_keep_a_probe_out() {
    let served = Served::start("n1", None).await;
    let mut silent = Vec::new();
    for n in 0..2 * CONNECTIONS_MAX {
        let mut connection = served.connect().await;
        // some send a part of a head
        connection.write_all(&b"GET /healthz HTTP/1.1\r\n"[..n % 20]).await.unwrap();
        silent.push(connection);
    }
    let begun = Instant::now();
    assert_eq!(served.probe().await, (200, "ok\n".to_owned()));
    assert!(begun.elapsed() < HEAD_WITHIN, "nobody is waited for");
    // the first has given way, and the last has not
    assert!(matches!(silent[0].read(&mut [0]).await, Ok(0) | Err(_)));
    let last = silent.last_mut().unwrap();
    last.write_all(&b"GET /healthz HTTP/1.1\r\n"[(2 * CONNECTIONS_MAX - 1) % 20..]).await.unwrap();
    last.write_all(b"host: x\r\n\r\n").await.unwrap();
    let mut came = String::new();
    last.read_to_string(&mut came).await.unwrap();
    assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_keeps_its_place_and_whoever_comes_then_waits() {
    let served = Served::start("n1", None).await;
    served.hub.is_silent.store(true, Relaxed);
    let mut asked = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut connection = served.connect().await;
        connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        asked.push(connection);
    }
    // of this clock, which goes on only when nothing is left to be read
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.probe().await.0, 503);
    for mut connection in asked {
        let mut came = String::new();
        connection.read_to_string(&mut came).await.unwrap();
        assert!(came.starts_with("HTTP/1.1 503 "), "{came}");
    }
}

#[tokio::test]
async fn answering_ends_when_it_is_told_to() {
    let served = Served::start("n1", None).await;
    assert_eq!(served.probe().await.0, 200);
    let mut silent = served.connect().await;
    served.stop.send(()).unwrap();
    served.ended.await.unwrap();
    assert!(matches!(silent.read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(served.address).await.is_err());
}
