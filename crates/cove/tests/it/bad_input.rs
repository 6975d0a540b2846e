//! What goes wrong is said, with the right exit status, and changes nothing.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Cove, Objects, Settings, contents, copy_program, list, loop_devices_of, run, s3, same_trees,
    send, text, texts,
};
use crate::story::make_project;

#[test]
fn a_path_stays_in_its_project() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let outside = cove.make_dir("outside");
    fs::write(outside.join("secret"), "secret").unwrap();
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    symlink(&outside, root.join("out")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    symlink("../../../../../..", root.join("up")).unwrap();
    let entry = cove.snapshot("shop", "links");

    for path in ["/../x", "/a/../../x", "/.."] {
        for verb in
            [&["files", "cat"][..], &["files", "stat"], &["files", "mkdir"], &["files", "rm"]]
        {
            let place = format!("shop:{path}");
            let arguments: Vec<&str> = verb.iter().copied().chain([place.as_str()]).collect();
            cove.refuses(2, &arguments);
        }
    }
    for path in ["/out/secret", "/etc/passwd", "/up/etc/passwd"] {
        for at in ["shop".to_owned(), format!("shop@{entry}")] {
            let output = cove.cove(&["files", "cat", &format!("{at}:{path}")]);
            assert!(
                matches!(output.code, 2..=4 | 9),
                "{at}:{path} {}: {}",
                output.code,
                output.stderr
            );
            assert!(output.stdout.is_empty() && output.stderr.contains("error: "));
        }
        for verb in ["put", "rm", "mkdir"] {
            let output = cove.cove_with(&["files", verb, &format!("shop:{path}-new")], b"evil");
            assert!(matches!(output.code, 2..=4 | 9), "{verb} {path}: {}", output.stderr);
        }
    }
    let output = cove.cove(&["files", "mv", "shop:/etc", "shop:/out/etc"]);
    assert!(matches!(output.code, 2..=4 | 9), "{}", output.stderr);
    fs::write(cove.dir.path().join("new"), "evil").unwrap();
    let output = cove.cove(&["cp", "new", "shop:/out/new"]);
    assert!(matches!(output.code, 2..=4 | 9), "{}", output.stderr);
    assert_eq!(contents(&outside), [(outside.join("secret"), b"secret".to_vec())]);
    let stat = cove.json(&["files", "stat", "shop:/out"]);
    assert_eq!(stat["files"][0]["kind"], "symlink", "a link itself is looked at");
}

/// A header of a tar archive, checksum and all.
pub fn header(name: &[u8], kind: u8, target: &[u8], size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + target.len()].copy_from_slice(target);
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Extracts an archive into the root of `shop`: the status and the answer.
pub fn put_archive(cove: &Cove, archive: &[u8]) -> (u16, String) {
    let (address, token) = cove.tcp();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "PUT /v1/projects/shop/files/archive?path=/ HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/x-tar\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        archive.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It may refuse before it has read all of it.
    let _ = stream.write_all(archive);
    send(stream, "")
}

#[test]
fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let outside = cove.make_dir("outside");
    cove.json(&["new", "shop"]);
    let block = |text: &[u8]| {
        let mut block = vec![0; 512];
        block[..text.len()].copy_from_slice(text);
        block
    };
    let end = vec![0; 1024];
    let target = outside.to_str().unwrap().as_bytes();
    let archives: [(&str, Vec<Vec<u8>>); 7] = [
        ("climbs", vec![header(b"../evil", b'0', b"", 4), block(b"evil"), end.clone()]),
        (
            "is absolute",
            vec![header(&[target, b"/evil"].concat(), b'0', b"", 4), block(b"evil"), end.clone()],
        ),
        (
            "passes a link",
            vec![
                header(b"link", b'2', target, 0),
                header(b"link/evil", b'0', b"", 4),
                block(b"evil"),
                end.clone(),
            ],
        ),
        ("links to what it has not", vec![header(b"passwd", b'1', b"/etc/passwd", 0), end.clone()]),
        ("has a device", vec![header(b"disk", b'4', b"", 0), end.clone()]),
        ("breaks off", vec![header(b"large", b'0', b"", 1 << 20), block(b"short")]),
        ("is no archive", vec![vec![0x5a; 2048]]),
    ];
    for (what, archive) in archives {
        let (status, answer) = put_archive(&cove, &archive.concat());
        assert!((400..500).contains(&status), "it {what}: {answer}");
        assert!(answer.contains("application/problem+json"), "it {what}: {answer}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "it {what}");
    }
    let good = [header(b"good", b'0', b"", 4), block(b"good"), end].concat();
    let (status, answer) = put_archive(&cove, &good);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(cove.text(&["files", "cat", "shop:/good"]), "good");
    let names = ["passwd", "disk", "large"];
    assert!(names.iter().all(|name| !cove.path("shop").join(name).exists()), "half a file is none");
}

#[test]
fn an_address_beyond_loopback_is_refused() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    for address in ["0.0.0.0:0", "[::]:0"] {
        let mut command = cove.program_of(&["up", "--listen", address, "--pool-bytes", "512MiB"]);
        let output = run(&mut command, b"");
        assert!(matches!(output.code, 2 | 4), "{address} {}: {}", output.code, output.stderr);
        assert!(output.stderr.contains("error: ") && output.stderr.contains("hint: "));
    }
    assert!(!cove.home.join("pool.img").exists(), "nothing was made");
}

#[test]
fn a_store_that_makes_no_sense_is_refused_at_the_start() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::S3)) else { return };
    let up = |objects: &str, key: &str| {
        let mut command = cove.refused_up();
        command.env("COVE_OBJECTS", objects).env("AWS_ACCESS_KEY_ID", key);
        let output = run(&mut command, b"");
        assert_eq!(output.code, 2, "{objects}: {}", output.stderr);
        assert!(output.stderr.contains("error: "), "{objects}: {}", output.stderr);
        assert!(loop_devices_of(&cove.home.join("pool.img")).is_empty(), "nothing stays attached");
        output.stderr
    };
    up("ftp://somewhere/else", "key");
    up("s3://", "key");
    let said = up(&cove.objects, "");
    assert!(said.contains("AWS_ACCESS_KEY_ID"), "{said}");
}

#[test]
fn a_store_that_refuses_is_named_and_nothing_is_called_saved() {
    let Some(server) = s3() else { return };
    let plain = ("AWS_ACCESS_KEY_ID", server.plain_access_key.clone());
    let wrong = ("AWS_SECRET_ACCESS_KEY", "wrong".to_owned());
    let nobody = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1".to_owned());
    let bucket = format!("s3://{}/refuses", server.bucket);
    for (objects, variable) in
        [("s3://no-such-bucket/prefix", plain), (&bucket, wrong), (&bucket, nobody)]
    {
        let variables = vec![variable.clone()];
        let settings = Settings { variables, ..Settings::with(Objects::Url(objects.to_owned())) };
        let Some(cove) = Cove::start_with(settings) else { return };
        let log = cove.log();
        let said = log.lines().find(|line| line.starts_with("the store ")).unwrap_or_default();
        assert!(said.contains(objects), "{variable:?}: {log}");
        let doctor = cove.json_with(&["doctor"], 4, b"");
        let checks = list(&doctor["checks"]);
        let store = checks.iter().find(|check| check["name"] == "object store");
        assert_eq!(store.unwrap()["ok"], false, "{variable:?}: {doctor}");
        let output = cove.cove(&["new", "shop", "--no-wait", "--json"]);
        match output.code {
            0 => assert!(output.stdout.contains("on_this_node"), "{}", output.stdout),
            code => assert!(matches!(code, 4 | 7 | 9), "{code}: {}", output.stderr),
        }
    }
}

#[test]
fn who_may_not_mount_is_told_what_is_needed() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    // Where others may reach the program.
    let program = cove.dir.path().join("cove");
    copy_program(&program);
    let theirs = cove.make_dir("theirs");
    for path in [cove.dir.path(), &theirs, &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::chown(&theirs, Some(1000), Some(1000)).unwrap();
    let up = |home: PathBuf| {
        let mut command = std::process::Command::new(&program);
        command.args(["up", "--listen", "127.0.0.1:0", "--pool-bytes", "512MiB", "--home"]);
        command.arg(home).uid(1000).gid(1000).env_remove("COVE_HOME").current_dir("/");
        run(&mut command, b"")
    };
    let output = up(theirs.join("home"));
    assert_eq!(output.code, 4, "{}", output.stderr);
    assert!(
        output.stderr.contains("hint: ") && output.stderr.contains("root"),
        "{}",
        output.stderr
    );
    // And a home without rights.
    let output = up(cove.dir.path().join("not-theirs"));
    assert_eq!(output.code, 9, "{}", output.stderr);
}

/// The program where every user may reach it, in a directory that every user may enter.
fn program_for_all(cove: &Cove) -> PathBuf {
    let program = cove.dir.path().join("cove");
    copy_program(&program);
    for path in [cove.dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    program
}

#[test]
fn under_sudo_the_home_is_the_callers_and_the_data_are_roots() {
    let mut settings = Settings::with(Objects::Url(String::new()));
    settings.variables = vec![("SUDO_UID", "1000".to_owned()), ("SUDO_GID", "1001".to_owned())];
    let Some(mut cove) = Cove::prepare(settings) else { return };
    let program = program_for_all(&cove);
    let above = cove.dir.path().join("ann/share");
    cove.home = above.join("cove");
    cove.up();
    let of = |place: PathBuf| {
        let found = fs::symlink_metadata(&place).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o777)
    };
    for dir in [above.parent().unwrap(), &above] {
        assert_eq!(of(dir.to_owned()), (1000, 1001, 0o755), "{}", dir.display());
    }
    assert_eq!(of(cove.home.clone()), (1000, 1001, 0o711));
    for name in ["cove.sock", "token", "lock", "address"] {
        assert_eq!(of(cove.home.join(name)), (1000, 1001, 0o600), "{name}");
    }
    for name in ["state", "objects"] {
        assert_eq!(of(cove.home.join(name)), (0, 0, 0o700), "{name}");
    }
    let ls = |uid: u32| {
        let mut command = std::process::Command::new(&program);
        command.args(["ls", "--json"]).env("COVE_HOME", &cove.home).env_remove("COVE_URL");
        run(command.uid(uid).gid(uid).current_dir("/"), b"")
    };
    assert_eq!(ls(1000).success().stdout.trim(), "{\"projects\":[]}");
    assert_eq!(ls(0).code, 0);
    assert_eq!(ls(1002).code, 9);
    // Not even when its mode would let others in: the kernel says who calls.
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(cove.home.join("cove.sock"), open).unwrap();
    let stranger = ls(1002);
    assert_eq!(stranger.code, 9, "{}", stranger.stderr);
    assert!(stranger.stderr.contains("this Cove belongs to another user"), "{}", stranger.stderr);
    cove.stop();
}

#[test]
fn a_port_in_use_and_a_home_in_use_are_said_before_anything_is_made() {
    let Some(mut cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    let mut command = cove.program_of(&["up", "--pool-bytes", "512MiB", "--listen", &address]);
    let refused = run(&mut command, b"");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let said = format!("error: another program listens on {address} already\n");
    assert!(refused.stderr.starts_with(&said), "{}", refused.stderr);
    assert!(!cove.home.join("pool.img").exists(), "nothing was made");

    let mut command = cove.program_of(&["up", "--home", "/proc/no/cove"]);
    let refused = run(&mut command, b"");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let said = "error: /proc/no cannot be made: no such file or directory\n";
    assert!(refused.stderr.starts_with(said), "{}", refused.stderr);

    cove.up();
    fs::write(cove.home.join("cove.log"), "of the one that runs\n").unwrap();
    let mut command = cove.program_of(&["up", "--detach", "--listen", "127.0.0.1:0"]);
    let refused = run(&mut command, b"");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("a Cove is running in"), "{}", refused.stderr);
    let log = fs::read_to_string(cove.home.join("cove.log")).unwrap();
    assert_eq!(log, "of the one that runs\n");
    cove.stop();
}

#[test]
fn a_flag_or_number_that_makes_no_sense_exits_with_2() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    for arguments in [
        &["up", "--pool-bytes", "many"][..],
        &["up", "--pool-bytes", "1MiB"],
        &["up", "--store-every", "never"],
        &["up", "--listen", "nowhere"],
        &["nothing"],
        &[],
        &["new"],
        &["fork", "shop", "--count", "0"],
        &["verify", "--level", "3"],
        &["verify", "--read", "3/2"],
        &["diff", "shop"],
        &["ls", "--json", "--quiet"],
    ] {
        let output = cove.cove(arguments);
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.stderr);
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", output.stdout);
    }
    for keep in ["0", "201", "many"] {
        let mut command = cove.refused_up();
        let output = run(command.env("COVE_MAX_SNAPSHOTS_PER_PROJECT", keep), b"");
        assert_eq!(output.code, 2, "{keep}: {}", output.stderr);
    }
    // Nobody is there.
    cove.refuses(7, &["ls"]);
}

/// A file system in memory, so small that a pool cannot grow in it: it leaves its host 2 GiB.
pub struct SmallDisk(pub tempfile::TempDir);

impl SmallDisk {
    pub fn mount() -> Self {
        let dir = tempfile::Builder::new().prefix("cove-it-small-").tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted =
            run(mount.args(["-t", "tmpfs", "-o", "size=2700m", "tmpfs"]).arg(dir.path()), b"");
        assert_eq!(mounted.code, 0, "{}", mounted.stderr);
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.0.path(), flags);
    }
}

#[test]
fn a_pool_that_is_full_refuses_and_harms_nothing() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    let disk = SmallDisk::mount();
    // It goes before its disk does.
    let mut cove = cove;
    cove.home = disk.0.path().join("home");
    cove.up();
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/kept"], b"kept").success();
    let entry = cove.snapshot("shop", "before");
    // What cannot be compressed.
    let huge = cove.dir.path().join("huge");
    let mut random = std::process::Command::new("sh");
    random.args(["-c", "head -c 600000000 /dev/urandom > \"$0\""]).arg(&huge);
    assert_eq!(run(&mut random, b"").code, 0);
    let output = cove.cove(&["cp", "huge", "shop:/huge"]);
    assert_eq!(output.code, 6, "{}", output.stderr);
    assert_eq!(texts(&cove.json(&["files", "ls", "shop:/"])["files"], "path"), ["kept"]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
    let output = cove.cove(&["new", "other", "--from", "."]);
    assert_eq!(output.code, 6, "{}", output.stderr);
    cove.refuses(3, &["show", "other"]);
    cove.json(&["restore", "shop", &entry]);
    assert_eq!(cove.text(&["files", "cat", "shop:/kept"]), "kept");
    assert!(cove.stop().success());
}

/// A project of which some packs lie in a directory store.
fn stored_project(cove: &Cove) -> Vec<PathBuf> {
    let source = cove.make_dir("source");
    make_project(&source);
    cove.json(&["new", "shop", "--from", "source"]);
    cove.snapshot("shop", "whole");
    let mut packs: Vec<(usize, PathBuf)> = cove
        .stored_objects()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("pack"))
        .map(|(path, bytes)| (bytes.len(), path))
        .collect();
    packs.sort();
    assert!(!packs.is_empty(), "{:?}", cove.stored_objects());
    packs.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn a_flipped_byte_is_found_when_packs_are_read() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let packs = stored_project(&cove);
    let mut bytes = fs::read(&packs[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&packs[0], &bytes).unwrap();
    assert_eq!(cove.json(&["verify", "--level", "0"])["problems"], json!([]));
    is_found(&cove, "2");
    bytes[middle] ^= 0x10;
    fs::write(&packs[0], &bytes).unwrap();
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]), "healed");
}

#[test]
fn a_pack_that_is_missing_is_found() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let packs = stored_project(&cove);
    fs::remove_file(&packs[0]).unwrap();
    is_found(&cove, "2");
}

#[test]
fn a_pack_that_was_cut_is_found() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let packs = stored_project(&cove);
    let bytes = fs::read(&packs[0]).unwrap();
    fs::write(&packs[0], &bytes[..bytes.len() / 3]).unwrap();
    is_found(&cove, "2");
}

/// `verify` at this level exits with 8 and names the files that the damage costs.
#[track_caller]
fn is_found(cove: &Cove, level: &str) {
    let verified = cove.json_with(&["verify", "shop", "--level", level], 8, b"");
    let problems = list(&verified["problems"]);
    assert!(!problems.is_empty());
    let paths: Vec<String> = problems
        .iter()
        .flat_map(|problem| list(&problem["paths"]))
        .map(|path| text(&path))
        .collect();
    // At most 100 of them are named.
    let source = cove.dir.path().join("source");
    assert!(!paths.is_empty() && paths.iter().all(|path| source.join(path).exists()), "{paths:?}");
    assert!(problems.iter().any(|problem| !problem["object"].is_null()), "{problems:?}");
    let said = cove.cove(&["verify", "shop", "--level", level]);
    assert_eq!(said.code, 8);
    assert!(said.stdout.contains(&paths[0]), "{}", said.stdout);
    let doctor: Value = serde_json::from_str(&cove.cove(&["doctor", "--json"]).stdout).unwrap();
    assert!(doctor["checks"].is_array());
    // The files on this node are unharmed, and so is the way to them.
    same_trees("on this node", &cove.dir.path().join("source"), &cove.path("shop"));
}

#[test]
fn a_store_that_is_away_holds_up_nothing_on_this_node() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let objects = cove.objects_dir();
    let away = objects.with_file_name("objects-away");
    fs::rename(&objects, &away).unwrap();
    cove.cove_with(&["files", "put", "shop:/a"], b"while it is away").success();
    let entry = cove.json(&["snapshot", "shop", "--no-wait", "-m", "away"]);
    assert_eq!(entry["entry"]["durability"], "on_this_node");
    assert_eq!(entry["entry"]["saved_ms"], Value::Null);
    assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "while it is away");
    let id = text(&entry["entry"]["id"]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{id}:/a")]), "while it is away");
    // Whatever was made in its place meanwhile is not the store.
    let _ = fs::remove_dir_all(&objects);
    fs::rename(&away, &objects).unwrap();
    let waited = cove.json(&["wait", "shop"]);
    assert_eq!(waited["project"]["durability"], "saved");
    assert_eq!(cove.timeline("shop")[0]["durability"], "saved");
}

#[test]
fn another_user_is_told_that_this_cove_is_not_theirs() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let program = cove.dir.path().join("cove");
    copy_program(&program);
    for path in [cove.dir.path(), &program] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
        command.args(arguments).env("COVE_HOME", &cove.home).current_dir("/");
        run(&mut command, b"")
    };
    for arguments in [&["ls"][..], &["show", "shop"], &["rm", "shop"], &["down"]] {
        let output = as_nobody(arguments);
        assert_eq!(output.code, 9, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains("\n\nhint: "), "{arguments:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{arguments:?}");
    }
    let output = as_nobody(&["up", "--listen", "127.0.0.1:0"]);
    assert!(matches!(output.code, 4 | 9), "{}: {}", output.code, output.stderr);
    assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "cat"])
        .arg(cove.home.join("token"))
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "nor may they read the token");
    assert_eq!(cove.text(&["ls", "--quiet"]), "shop\n");
}
