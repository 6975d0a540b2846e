//! Where the demo plays: a directory, the programs in it, and what a person sees.
//!
//! **Invariant:** whatever happens on the way, when a stage is dropped its processes have ended,
//! nothing below it is mounted or attached, and it is gone.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cove_testkit::S3Server;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// To whom all of a project belongs, and as whom its database runs.
const OWNER: u32 = 1000;
/// How long what was told to end may take.
const END_WAIT: Duration = Duration::from_secs(20);
/// How long a process that becomes another program may be without a command line.
const EXEC_WAIT: Duration = Duration::from_secs(1);
/// How wide the demo is, in columns.
const WIDTH: usize = 78;

/// Where the demo plays.
pub struct Stage {
    dir: PathBuf,
    /// Where commands run.
    place: PathBuf,
    environment: Vec<(&'static str, String)>,
    server: Option<S3Server>,
    writer: Option<Child>,
    interrupted: Arc<AtomicBool>,
    began: Instant,
    is_colored: bool,
    /// What each act was, and how long it took.
    acts: Vec<(String, Duration)>,
    act_began: Instant,
}

impl Stage {
    /// An empty stage with the program and the database's programs on its `PATH`.
    pub fn set(program: &Path, postgres: &Path) -> Result<Self> {
        let interrupted = watch_signals()?;
        // What a command leaves behind ends as a child of this program, which takes notice of it.
        // Elsewhere it may stay a zombie, and a database takes the number in its lock file for one
        // that runs.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("failed to take over what commands leave behind")?;
        // It goes when nothing is mounted in it any more, and not before: with the stage.
        let dir = tempfile::Builder::new().prefix("cove-demo-").tempdir()?.keep();
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let no_color = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        let stage = Self {
            place: dir.clone(),
            environment: environment(&dir),
            dir,
            server: None,
            writer: None,
            interrupted,
            began: Instant::now(),
            is_colored: std::io::stdout().is_terminal() && !dumb && !no_color,
            acts: Vec::new(),
            act_began: Instant::now(),
        };
        stage.furnish(program, postgres)?;
        Ok(stage)
    }

    /// Makes what stands in its directory.
    fn furnish(&self, program: &Path, postgres: &Path) -> Result<()> {
        // The database does not run as root and must get in.
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755))?;
        let (programs, sockets) = (self.dir.join("bin"), self.dir.join("run"));
        for place in [&programs, &sockets, &self.dir.join("harbour")] {
            fs::create_dir(place)?;
        }
        chown(&sockets, Some(OWNER), Some(OWNER))?;
        symlink(program, programs.join("cove"))?;
        for name in ["initdb", "pg_ctl", "psql"] {
            let real = postgres.join(name);
            let text = format!(
                "#!/bin/sh\nexec setpriv --reuid {OWNER} --regid {OWNER} --clear-groups {} \"$@\"\n",
                real.display()
            );
            let script = programs.join(name);
            fs::write(&script, text)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the S3 server and sets what reaches it; its endpoint.
    pub fn start_store(&mut self) -> Result<String> {
        let server = S3Server::start().context("the demo needs the S3 server that was skipped")?;
        let endpoint = server.endpoint.clone();
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", server.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", server.secret_key.clone()),
            ("AWS_ENDPOINT_URL", endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ] {
            self.set_variable(name, value);
        }
        self.server = Some(server);
        Ok(endpoint)
    }

    fn set_variable(&mut self, name: &'static str, value: String) {
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value));
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What the whole is.
    pub fn title(&self, text: &str) {
        println!("{}", self.style("1", text));
    }

    /// Begins an act.
    pub fn act(&mut self, title: &str, why: &str) {
        self.end_act();
        self.act_began = Instant::now();
        let number = self.acts.len() + 1;
        self.acts.push((title.to_owned(), Duration::ZERO));
        let head = format!("{number}  {title}");
        let rule = "─".repeat(WIDTH.saturating_sub(head.chars().count() + 8));
        println!(
            "\n{} {} {:>5}",
            self.style("1", &head),
            self.style("2", &rule),
            clock(self.began.elapsed())
        );
        self.tell(why);
    }

    fn end_act(&mut self) {
        let took = self.act_began.elapsed();
        if let Some((_, time)) = self.acts.last_mut() {
            *time = took;
        }
    }

    /// A sentence between the commands.
    pub fn tell(&self, text: &str) {
        for line in wrapped(text) {
            println!("   {line}");
        }
    }

    /// What was looked at and is so, with how long it took.
    pub fn holds(&self, text: &str, took: Option<Duration>) {
        let time = took.map(spoken).unwrap_or_default();
        let gap = WIDTH.saturating_sub(text.chars().count() + time.len() + 5);
        let line = format!("   {} {text}", self.style("32", "✓"));
        match took {
            Some(_) => println!("{line}{}{}", " ".repeat(gap), self.style("2", &time)),
            None => println!("{line}"),
        }
    }

    fn prompt(&self, command: &str) {
        println!("{} {}", self.style("36", "$"), self.style("1", command));
    }

    /// `export`s a variable.
    pub fn export(&mut self, name: &'static str, value: &str) {
        self.prompt(&format!("export {name}={value}"));
        self.set_variable(name, value.to_owned());
    }

    /// `cd`s.
    pub fn enter(&mut self, written: &str) -> Result<()> {
        self.prompt(&format!("cd {written}"));
        let place = self.ask(&format!("cd {written} && pwd -P"))?;
        self.place = PathBuf::from(place);
        Ok(())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(&self.place).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Not this program's group: ctrl-C comes here, and what runs is ended in order.
        command.process_group(0);
        command
    }

    /// Runs a command where a person sees it, which must succeed; how long it took.
    pub fn run(&mut self, line: &str) -> Result<Duration> {
        let (status, took) = self.see(line)?;
        if !status.success() {
            bail!("`{line}` ended with {status}");
        }
        Ok(took)
    }

    /// Runs a command that is to be refused with an exit status.
    pub fn refused(&mut self, line: &str, code: i32) -> Result<Duration> {
        let (status, took) = self.see(line)?;
        if status.code() != Some(code) {
            bail!("`{line}` was to exit with {code} and ended with {status}");
        }
        Ok(took)
    }

    fn see(&self, line: &str) -> Result<(ExitStatus, Duration)> {
        self.prompt(line);
        std::io::stdout().flush()?;
        let began = Instant::now();
        let mut child = self.command(line).spawn().context("failed to start sh")?;
        let status = self.wait_for(&mut child)?;
        take_notice();
        Ok((status, began.elapsed()))
    }

    fn wait_for(&self, child: &mut Child) -> Result<ExitStatus> {
        loop {
            if self.is_interrupted() {
                end_group(child);
                bail!("interrupted");
            }
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts a command that goes on beside the others until [`stop_writer`](Self::stop_writer).
    pub fn start_writer(&mut self, line: &str) -> Result<()> {
        self.prompt(&format!("{line} &"));
        let mut command = self.command(line);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.writer = Some(command.spawn().context("failed to start sh")?);
        Ok(())
    }

    /// Ends what goes on beside the others.
    pub fn stop_writer(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            end_group(&mut writer);
        }
    }

    /// Whether who watches has had enough.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// What a command prints that nobody sees.
    pub fn ask(&self, line: &str) -> Result<String> {
        if self.is_interrupted() {
            bail!("interrupted");
        }
        let output = self.command(line).output().context("failed to start sh")?;
        if !output.status.success() {
            // `doctor` says on its standard output what is wrong
            let said = [output.stdout, output.stderr].concat();
            bail!(
                "`{line}` ended with {}:\n{}",
                output.status,
                String::from_utf8_lossy(&said).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What a verb of Cove answers.
    pub fn json(&self, verb: &str) -> Result<Value> {
        let text = self.ask(&format!("cove {verb} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("`cove {verb} --json` is no JSON"))
    }

    /// Each act with its time, and the sum.
    pub fn summary(&mut self) -> Duration {
        self.end_act();
        println!();
        for (number, (title, took)) in self.acts.iter().enumerate() {
            println!("{:>3}  {title:<60} {:>12}", number + 1, spoken(*took));
        }
        let all = self.began.elapsed();
        let (said, time) = (format!("{:<65}", "all of it"), format!("{:>12}", spoken(all)));
        println!("{} {}", self.style("1", &said), self.style("1", &time));
        all
    }

    /// Ends all that runs here and lets go of all that is mounted; what is left in spite of that.
    pub fn clear(&mut self) -> Vec<String> {
        self.stop_writer();
        let inside = format!("{}/", self.dir().display());
        // The databases first: their files are on the pool.
        end_all(&inside, Signal::QUIT, |line| line.contains("postgres"));
        for home in homes(self.dir()) {
            if home.join("cove.sock").exists() {
                let line = format!("COVE_HOME={} cove down -q", home.display());
                let _ = self.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
        end_all(&inside, Signal::TERM, |_| true);
        end_all(&inside, Signal::KILL, |_| true);
        // Whoever has just ended may hold it a moment longer.
        let until = Instant::now() + END_WAIT;
        while !(mounts(&inside).is_empty() && loop_devices(&inside).is_empty())
            && Instant::now() < until
        {
            for place in mounts(&inside).into_iter().rev() {
                let _ = rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty());
            }
            if mounts(&inside).is_empty() {
                for device in loop_devices(&inside) {
                    let _ = Command::new("losetup").arg("-d").arg(device).status();
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.server.take());
        let mut left = Vec::new();
        let running = processes(&inside);
        left.extend(running.into_iter().map(|(pid, line)| format!("process {pid}: {line}")));
        left.extend(mounts(&inside).into_iter().map(|place| format!("{place} is mounted")));
        left.extend(
            loop_devices(&inside).into_iter().map(|device| format!("{device} is attached")),
        );
        if left.is_empty() {
            let _ = std::env::set_current_dir("/");
            if let Err(error) = fs::remove_dir_all(self.dir())
                && error.kind() != std::io::ErrorKind::NotFound
            {
                left.push(format!("{}: {error}", self.dir().display()));
            }
        }
        left
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for left in self.clear() {
            eprintln!("left behind: {left}");
        }
    }
}

/// What the commands in a directory have in their environment.
fn environment(dir: &Path) -> Vec<(&'static str, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    vec![
        ("PATH", format!("{}:{path}", dir.join("bin").display())),
        ("PGHOST", dir.join("run").display().to_string()),
        ("PGUSER", "harbour".to_owned()),
        ("PGDATABASE", "postgres".to_owned()),
        ("PGOPTIONS", "-c client_min_messages=warning".to_owned()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
        // Root looks at a repository that belongs to the project's owner.
        ("GIT_CONFIG_COUNT", "1".to_owned()),
        ("GIT_CONFIG_KEY_0", "safe.directory".to_owned()),
        ("GIT_CONFIG_VALUE_0", "*".to_owned()),
        ("GIT_AUTHOR_NAME", "Ann".to_owned()),
        ("GIT_AUTHOR_EMAIL", "ann@example.com".to_owned()),
        ("GIT_COMMITTER_NAME", "Ann".to_owned()),
        ("GIT_COMMITTER_EMAIL", "ann@example.com".to_owned()),
        ("PAGER", "cat".to_owned()),
        ("COVE_LISTEN", "127.0.0.1:0".to_owned()),
        ("COVE_URL", String::new()),
        ("COVE_OBJECTS", String::new()),
    ]
}

/// The homes of Cove below a directory.
fn homes(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("lock").exists()).collect()
}

/// A flag that ctrl-C, SIGTERM and SIGHUP set, in place of ending this program.
fn watch_signals() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let signals: std::io::Result<Vec<_>> = kinds.into_iter().map(signal).collect();
    let mut signals = signals.context("failed to watch for signals")?;
    drop(guard);
    let seen = Arc::clone(&flag);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
                futures::future::select_all(any).await;
                seen.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(flag)
}

/// Ends a child and all that it started, and waits for the child.
fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for signal in [Signal::TERM, Signal::KILL] {
        // It fails only where all of them have ended.
        let _ = group.map(|group| kill_process_group(group, signal));
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Takes notice of the children that have ended.
fn take_notice() {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if state_and_parent(pid) == Some(('Z', own)) {
            // Whoever started it may have been first.
            let _ = Pid::from_raw(pid).map(|child| {
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::NOHANG)
            });
        }
    }
}

/// The state and the parent of a process: the fields of `stat` in proc(5) behind its name, which stands in parentheses
/// and may hold anything.
fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn parent(pid: i32) -> Option<i32> {
    state_and_parent(pid).map(|(_, parent)| parent)
}

/// The command line of a process, its arguments apart by spaces; none where it has ended, and empty where it has none
/// after a second.
///
/// One that runs is without a line for a moment while it becomes another program, after `spawn` has returned
/// already, on a busy machine for a longer one: it is waited for.
fn command_line(pid: i32) -> Option<String> {
    let until = Instant::now() + EXEC_WAIT;
    loop {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        if !line.is_empty() || Instant::now() > until {
            return Some(String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned());
        }
        if state_and_parent(pid)?.0 == 'Z' {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The processes whose command line names a path below a directory, or that run in one, as far as this
/// program has started them: what leaves its parent is given to this one.
fn processes(inside: &str) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let named = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let is_ours = std::iter::successors(parent(pid), |pid| parent(*pid)).any(|pid| pid == own);
        if pid == own || !is_ours {
            return None;
        }
        let line = command_line(pid)?;
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let is_inside = line.contains(inside) || place.to_string_lossy().starts_with(inside);
        is_inside.then_some((pid, line))
    });
    named.collect()
}

/// Ends the processes of a directory with a signal, and waits for that.
fn end_all(inside: &str, signal: Signal, which: impl Fn(&str) -> bool) {
    let until = Instant::now() + END_WAIT;
    let mut told = Vec::new();
    loop {
        let running: Vec<i32> = processes(inside)
            .into_iter()
            .filter(|(_, line)| which(line))
            .map(|(pid, _)| pid)
            .collect();
        if running.is_empty() || Instant::now() > until {
            return;
        }
        for pid in running {
            if !told.contains(&pid) {
                // It may have ended meanwhile.
                let _ = Pid::from_raw(pid).map(|process| kill_process(process, signal));
                told.push(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is mounted below a directory, in the order in which it was.
fn mounts(inside: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = text.lines().filter_map(|line| line.split(' ').nth(1));
    places.filter(|place| place.starts_with(inside)).map(str::to_owned).collect()
}

/// The loop devices whose file is below a directory.
fn loop_devices(inside: &str) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let attached = entries.filter_map(|entry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        file.starts_with(inside).then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
    });
    attached.collect()
}

/// Lines of a text that fit beside the margin.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > WIDTH - 3 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A time in words.
fn spoken(time: Duration) -> String {
    match time.as_millis() {
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A time as a clock shows it.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_time_is_told_in_its_unit() {
        let told = |ms| spoken(Duration::from_millis(ms));
        assert_eq!([told(12), told(1_250), told(61_000)], ["12 ms", "1.2 s", "1 min 1 s"]);
        assert_eq!(clock(Duration::from_secs(61)), "1:01");
    }

    #[test]
    fn a_sentence_is_wrapped_between_words() {
        let text = "word ".repeat(40);
        let lines = wrapped(&text);
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= WIDTH - 3), "{lines:?}");
        assert_eq!(lines.join(" "), text.trim());
    }

    #[test]
    fn only_what_names_the_directory_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let inside = format!("{}/", dir.path().display());
        // It waits by itself: a child would bear its command line until it runs another program.
        let sh = |path: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", "read line", path]).stdin(Stdio::piped());
            command.process_group(0).spawn().unwrap()
        };
        let (mut ours, mut other) = (sh(&format!("{inside}x")), sh("/elsewhere/x"));
        assert_eq!(processes(&inside).len(), 1);
        // Kept, because to wait closes it, and the shell ends by itself then.
        let _open = ours.stdin.take();
        let ending = std::thread::spawn(move || ours.wait().unwrap());
        end_all(&inside, Signal::TERM, |_| true);
        assert_eq!(ending.join().unwrap().signal(), Some(Signal::TERM.as_raw()));
        assert!(other.try_wait().unwrap().is_none());
        end_group(&mut other);
    }
}
