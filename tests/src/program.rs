//! A program as a process: started with the arguments and environment given and nothing else, its output collected,
//! killed when dropped.

use std::env;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Far longer than anything here takes on a loaded two-core machine; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// What `event` resolves to; panics, saying what was awaited, when that takes too long.
pub async fn within<T>(awaited: &str, event: impl Future<Output = T>) -> T {
    timeout(DEADLINE, event).await.unwrap_or_else(|_| panic!("{awaited}: not within {DEADLINE:?}"))
}

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    output: watch::Receiver<Output>,
}

/// Standard output and standard error in the order in which they were written.
#[derive(Debug, Default)]
struct Output {
    text: String,
    /// The other end of the pipe is closed, so the program has ended.
    ended: bool,
}

impl Program {
    /// Starts a program of this workspace, building it first. Of the environment it gets only what is given, so that
    /// a developer's own settings change no result.
    #[must_use]
    pub fn start(name: &'static str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(executable(name));
        command.args(arguments).env_clear().env("NO_COLOR", "1").envs(environment.iter().copied());
        Self::spawn(name, command.stdin(Stdio::null()))
    }

    /// Starts any other program.
    #[must_use]
    pub fn spawn(name: &'static str, command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let child = command
            .stdout(writer.try_clone().expect("a second handle of the pipe"))
            .stderr(writer)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        // The command holds the pipe's other end as well, and without this its reader would wait for it.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, output) = watch::channel(Output::default());
        thread::spawn(move || collect(reader, &sender));
        Self { name, child, output }
    }

    /// Waits until `find` finds something in what the program has printed so far.
    pub async fn printed<T>(&mut self, awaited: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let name = self.name;
        let output = self.output.wait_for(|output| output.ended || find(&output.text).is_some());
        let output = within(&format!("{name} prints {awaited}"), output).await;
        let text = &output.expect("the reader says that it ended before it goes").text;
        find(text).unwrap_or_else(|| panic!("{name} ended and had not printed {awaited}"))
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the program to end, as a container runtime does.
    pub fn terminate(&self) {
        // The shell's own `kill`, since the command is missing from small images.
        let status = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(status.expect("a shell").success(), "{} had ended already", self.name);
    }

    /// Waits for the program to end by itself: how it ended and all that it printed.
    pub async fn ended(&mut self) -> (ExitStatus, String) {
        let output =
            within(&format!("{} ends", self.name), self.output.wait_for(|output| output.ended)).await;
        let text = output.expect("the reader says that it ended before it goes").text.clone();
        (self.child.wait().expect("the exit status"), text)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only for a program that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut printed = format!("--- {} printed:\n", self.name);
        for line in self.output.borrow().text.lines() {
            let _ = writeln!(printed, "    {line}");
        }
        eprint!("{printed}");
    }
}

fn collect(reader: PipeReader, sender: &watch::Sender<Output>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        sender.send_modify(|output| output.text.push_str(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    sender.send_modify(|output| output.ended = true);
}

/// The path of a program of this workspace, in the profile of the running test.
fn executable(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(build);
    FOLDER.join(name)
}

/// Builds the programs and says where they are. Cargo does that by itself only for the tests of the package that has
/// the program. All members are named, as in `cargo test --workspace`, so that the features of dependencies, and with
/// them the dependencies, are the ones that are built already.
fn build() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(Path::parent).expect("tests are in FOLDER/deps").to_path_buf();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--workspace", "--bins", "--profile", profile])
        .args(["--features", "bitnet-web/standalone"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the programs do not build");
    folder
}
