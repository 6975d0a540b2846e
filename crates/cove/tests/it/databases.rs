//! Databases that commit all the time while they are snapshotted: what was acknowledged is there, and
//! every fork opens as after a power cut.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use cove_testkit::proof::{figure, rounds};

use crate::harness::{Cove, Objects, Settings, poll, run};

/// How many forks are checked at once.
const CHECKS: usize = 4;

/// How many snapshots are taken while the database works.
fn snapshots() -> usize {
    rounds(20, 100)
}

fn cove() -> Option<Cove> {
    let mut settings = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    settings.variables.push(("COVE_MAX_SNAPSHOTS_PER_PROJECT", "200".to_owned()));
    Cove::start_with(settings)
}

/// Forks each entry and looks into the fork, beside what the caller goes on doing.
///
/// `check` gets the directory of a fork and the number that was acknowledged before its entry was asked
/// for; it panics when the fork is not as it must be.
fn snapshot_and_check(
    cove: &Cove,
    acknowledged: impl Fn() -> u64,
    check: impl Fn(&Path, u64) + Sync,
) -> Vec<(String, u64)> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<(String, u64)>();
        let (receiver, check) = (Arc::new(Mutex::new(receiver)), &check);
        let checking: Vec<_> = (0..CHECKS)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || {
                    loop {
                        // bound apart: the others take the next ones while this one is checked
                        let next = receiver.lock().unwrap().recv();
                        let Ok((entry, least)) = next else { return };
                        check_fork(cove, &entry, least, check);
                    }
                })
            })
            .collect();
        drop(receiver);
        let mut entries = Vec::new();
        for number in 0..snapshots() {
            let least = acknowledged();
            let entry = cove.snapshot("shop", &format!("{number}"));
            entries.push((entry.clone(), least));
            // an end of the receiver is its panic, which the join below tells
            if sender.send((entry, least)).is_err() {
                break;
            }
        }
        drop(sender);
        for checking in checking {
            if let Err(panic) = checking.join() {
                std::panic::resume_unwind(panic);
            }
        }
        entries
    })
}

/// Forks an entry, checks the fork and gives its room back.
fn check_fork(cove: &Cove, entry: &str, least: u64, check: impl Fn(&Path, u64)) {
    let name = format!("fork-{}", &entry[..8]);
    cove.json(&["fork", &format!("shop@{entry}"), "--as", &name]);
    let root = cove.path(&name);
    check(&root, least);
    // the trash keeps what is in it
    for found in fs::read_dir(&root).unwrap() {
        let path = found.unwrap().path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    cove.json(&["rm", &name]);
}

/// Checks forks of some entries that only the store has.
fn check_from_the_store(cove: &mut Cove, entries: &[(String, u64)], check: impl Fn(&Path, u64)) {
    cove.json(&["wait", "shop"]);
    cove.lose_and_recover();
    let few = rounds(3, 10);
    for (entry, least) in entries.iter().step_by((entries.len() / few).max(1)) {
        check_fork(cove, entry, *least, &check);
    }
}

// SQLite

/// `sqlite3`, which commits pairs into two databases until it is stopped.
struct Pairs {
    child: Child,
    input: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// The last number whose rows are committed in both.
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Pairs {
    fn start(root: &Path) -> Self {
        let mut child = Command::new("sqlite3")
            .args(["-batch", "-bail"])
            .arg(root.join("one.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let pairs = Self {
            child,
            input: Mutex::new((input, output)),
            acknowledged: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let two = root.join("two.db");
        let tables = ["main", "two"].map(|of| {
            format!(
                "PRAGMA {of}.journal_mode=WAL; PRAGMA {of}.synchronous=FULL;
                 CREATE TABLE {of}.debit (n INTEGER PRIMARY KEY, amount INTEGER, filler BLOB);
                 CREATE TABLE {of}.credit (n INTEGER PRIMARY KEY, amount INTEGER, filler BLOB);"
            )
        });
        let attach = format!("ATTACH '{}' AS two;", two.display());
        pairs.ask(&format!("{attach}{}{}", tables[0], tables[1]));
        pairs
    }

    /// Has statements run and waits until they are; the lines before are what they answered.
    fn ask(&self, statements: &str) {
        let mut streams = self.input.lock().unwrap();
        writeln!(streams.0, "{statements} SELECT 'done';").unwrap();
        streams.0.flush().unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(streams.1.read_line(&mut line).unwrap(), 0, "sqlite3 has ended");
            if line == "done\n" {
                return;
            }
        }
    }

    /// Commits pair after pair, a transaction for each of the two databases in this order.
    fn commit_until_stopped(&self) {
        for number in 1_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let pair = |of: &str| {
                format!(
                    "BEGIN IMMEDIATE;
                     INSERT INTO {of}.debit VALUES ({number}, {number}, randomblob(2000));
                     INSERT INTO {of}.credit VALUES ({number}, -{number}, randomblob(3000));
                     DELETE FROM {of}.debit WHERE n = {number} - 500;
                     DELETE FROM {of}.credit WHERE n = {number} - 500;
                     COMMIT;"
                )
            };
            self.ask(&format!("{}{}", pair("main"), pair("two")));
            self.acknowledged.store(number, Ordering::SeqCst);
        }
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a database says, a line for each row.
fn query(database: &Path, statement: &str) -> String {
    let output = run(Command::new("sqlite3").arg("-batch").arg(database).arg(statement), b"");
    output.success().stdout
}

/// Both databases open, no pair is torn, nothing that was acknowledged is missing, and they are of one
/// instant.
fn check_pairs(root: &Path, least: u64) {
    let last: Vec<u64> = ["one.db", "two.db"]
        .iter()
        .map(|name| {
            let database = root.join(name);
            assert_eq!(query(&database, "PRAGMA integrity_check"), "ok\n", "{name}");
            let torn = "SELECT count(*) FROM (SELECT n, amount FROM debit
                        EXCEPT SELECT n, -amount FROM credit)
                        UNION ALL SELECT count(*) FROM (SELECT n, -amount FROM credit
                        EXCEPT SELECT n, amount FROM debit)";
            assert_eq!(query(&database, torn), "0\n0\n", "{name} has a torn pair");
            let count = "SELECT max(n), max(n) - min(n) + 1 - count(*) FROM debit";
            let found = query(&database, count);
            let (last, missing) = found.trim().split_once('|').unwrap();
            assert_eq!(missing, "0", "{name} has a gap");
            last.parse().unwrap()
        })
        .collect();
    assert!(last[0] >= least && last[1] >= least, "{last:?}, and {least} was acknowledged before");
    assert!(last[0] == last[1] || last[0] == last[1] + 1, "not of one instant: {last:?}");
}

#[test]
fn sqlite_in_wal_mode_is_whole_in_every_entry_that_was_taken_while_it_committed() {
    if run(Command::new("sh").args(["-c", "command -v sqlite3"]), b"").code != 0 {
        eprintln!("SKIPPED: there is no sqlite3 in PATH");
        return;
    }
    let Some(mut cove) = cove() else { return };
    cove.json(&["new", "shop"]);
    let pairs = Pairs::start(&cove.path("shop"));
    pairs.ask("");
    let entries = std::thread::scope(|scope| {
        let committing = scope.spawn(|| pairs.commit_until_stopped());
        poll("the first pairs", || match pairs.acknowledged.load(Ordering::SeqCst) {
            0..10 => Err("fewer than 10".to_owned()),
            _ => Ok(()),
        });
        let acknowledged = || pairs.acknowledged.load(Ordering::SeqCst);
        // also when it fails: the scope waits for the writer
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            snapshot_and_check(&cove, acknowledged, check_pairs)
        }));
        pairs.stop.store(true, Ordering::SeqCst);
        committing.join().unwrap();
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let committed = pairs.acknowledged.load(Ordering::SeqCst);
    drop(pairs);
    assert!(entries.last().unwrap().1 > entries[0].1, "it was at work meanwhile");
    check_from_the_store(&mut cove, &entries, check_pairs);
    figure("SQLite in WAL mode: entries whose forks are whole", entries.len());
    figure("SQLite in WAL mode: pairs committed meanwhile", committed);
}

// PostgreSQL

/// The user whose files those of a workspace are.
const OWNER: &str = "1000";

/// A PostgreSQL whose programs were found.
struct Postgres {
    bin: PathBuf,
    /// A short path, where sockets and logs lie.
    run_dir: tempfile::TempDir,
}

impl Postgres {
    fn find() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let debian = versions.map(|version| version.path().join("bin"));
        let path = run(Command::new("sh").args(["-c", "command -v initdb"]), b"").stdout;
        let own = Path::new(path.trim()).parent().map(Path::to_owned);
        let has_all = |bin: &PathBuf| {
            ["initdb", "pg_ctl", "postgres", "psql", "pgbench"]
                .iter()
                .all(|name| bin.join(name).exists())
        };
        let Some(bin) = debian.chain(own).filter(has_all).max() else {
            eprintln!("SKIPPED: there is no PostgreSQL in /usr/lib/postgresql or PATH");
            return None;
        };
        let run_dir = tempfile::Builder::new().prefix("cove-pg-").tempdir().unwrap();
        fs::set_permissions(run_dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Some(Self { bin, run_dir })
    }

    /// A program of it as the user whose files it works on.
    ///
    /// It asks for that user's name, which a machine need not have: in a mount namespace of its own it
    /// is in the list of users.
    fn program(&self, name: &str) -> Command {
        let users = self.run_dir.path().join("passwd");
        if !users.exists() {
            let known = fs::read_to_string("/etc/passwd").unwrap();
            let others = known.lines().filter(|line| line.split(':').nth(2) != Some(OWNER));
            let mut text: String = others.map(|line| format!("{line}\n")).collect();
            text.push_str("workspace:x:1000:1000::/:/bin/sh\n");
            fs::write(&users, text).unwrap();
            fs::set_permissions(&users, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(
            r#"mount --bind "$1" /etc/passwd && shift &&
            exec setpriv --reuid 1000 --regid 1000 --clear-groups "$@""#,
        );
        command.arg("sh").arg(&users).arg(self.bin.join(name));
        command.current_dir("/").env("PGUSER", "cove").env("LC_ALL", "C");
        command
    }

    fn create(&self, data: &Path) {
        let mut initdb = self.program("initdb");
        initdb.args(["-U", "cove", "-A", "trust", "-N", "--wal-segsize=4", "-E", "UTF8", "-D"]);
        run(initdb.arg(data), b"").success();
        let settings = "listen_addresses = ''\nshared_buffers = 16MB\nmax_connections = 20\n\
                        max_wal_size = 48MB\nmin_wal_size = 16MB\nautovacuum = off\n\
                        max_worker_processes = 0\nrecovery_init_sync_method = syncfs\nmax_wal_senders = 0\nwal_level = minimal\n";
        let at = data.join("postgresql.conf");
        let written = fs::read_to_string(&at).unwrap();
        fs::write(at, format!("{written}\n{settings}")).unwrap();
    }

    /// Starts a server on a data directory; its port names its socket and nothing else.
    fn start(&self, data: &Path, port: u16) -> Server<'_> {
        let log = self.run_dir.path().join(format!("{port}.log"));
        let options = format!("-k {} -p {port}", self.run_dir.path().display());
        let mut start = self.program("pg_ctl");
        start.args(["-w", "-t", "60", "-o", &options, "-l"]).arg(&log);
        let started = run(start.arg("-D").arg(data).arg("start"), b"");
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(started.code, 0, "{}{}\n{said}", started.stdout, started.stderr);
        Server { postgres: self, data: data.to_owned(), port, log }
    }
}

/// A server that runs; it is stopped with the value.
struct Server<'p> {
    postgres: &'p Postgres,
    data: PathBuf,
    port: u16,
    log: PathBuf,
}

impl Server<'_> {
    /// A client's program, on its socket.
    fn client(&self, name: &str) -> Command {
        let mut client = self.postgres.program(name);
        client.env("PGHOST", self.postgres.run_dir.path()).env("PGPORT", self.port.to_string());
        client.env("PGDATABASE", "postgres");
        client
    }

    fn query(&self, statement: &str) -> String {
        let mut psql = self.client("psql");
        run(psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]), b"")
            .success()
            .stdout
    }

    /// How many transactions of pgbench are committed.
    fn committed(&self) -> u64 {
        self.query("SELECT count(*) FROM pgbench_history").trim().parse().unwrap()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let mut stop = self.postgres.program("pg_ctl");
        run(stop.args(["-w", "-m", "immediate", "stop", "-D"]).arg(&self.data), b"");
    }
}

/// It recovers, every sum is that of the deltas, and nothing that was committed is missing.
fn check_cluster(postgres: &Postgres, root: &Path, least: u64) {
    static PORT: AtomicU64 = AtomicU64::new(20_000);
    let data = root.join("pg");
    // as after a power cut: the process that it names is another machine's
    fs::remove_file(data.join("postmaster.pid")).unwrap();
    let port = u16::try_from(PORT.fetch_add(1, Ordering::Relaxed)).unwrap();
    let server = postgres.start(&data, port);
    let log = fs::read_to_string(&server.log).unwrap();
    assert!(log.contains("database system was interrupted"), "{log}");
    let sums = server.query(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts),
                (SELECT sum(bbalance) FROM pgbench_branches),
                (SELECT sum(tbalance) FROM pgbench_tellers),
                (SELECT coalesce(sum(delta), 0) FROM pgbench_history)",
    );
    let sums: Vec<&str> = sums.trim().split('|').collect();
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    let committed = server.committed();
    assert!(committed >= least, "{committed}, and {least} were committed before");
}

#[test]
fn postgresql_under_pgbench_is_whole_in_every_entry_that_was_taken_meanwhile() {
    let Some(postgres) = Postgres::find() else { return };
    let Some(mut cove) = cove() else { return };
    // its user has to get to the files
    fs::set_permissions(cove.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    cove.json(&["new", "shop"]);
    let data = cove.path("shop").join("pg");
    postgres.create(&data);
    let server = postgres.start(&data, 5432);
    run(server.client("pgbench").args(["-i", "-q", "-s", "1"]), b"").success();
    let mut pgbench = server
        .client("pgbench")
        .args(["-n", "-c", "4", "-T", "3600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    poll("the first transactions", || match server.committed() {
        0..10 => Err("fewer than 10".to_owned()),
        _ => Ok(()),
    });
    let check = |root: &Path, least: u64| check_cluster(&postgres, root, least);
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        snapshot_and_check(&cove, || server.committed(), check)
    }));
    let _ = pgbench.kill();
    pgbench.wait().unwrap();
    let committed = server.committed();
    drop(server);
    let entries = checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(entries.last().unwrap().1 > entries[0].1, "it was at work meanwhile");
    check_from_the_store(&mut cove, &entries, check);
    figure("PostgreSQL under pgbench: entries whose forks are whole", entries.len());
    figure("PostgreSQL under pgbench: transactions committed meanwhile", committed);
}
