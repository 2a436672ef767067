//! Processes on this machine, from `/proc`.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process that the test did not start.
#[derive(Debug, Clone)]
pub struct Other {
    /// Its process id.
    pub id: u32,
    /// Its command line.
    pub arguments: Vec<String>,
}

impl Other {
    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.id, signal);
    }

    /// Returns the file name of its program.
    pub fn program(&self) -> &str {
        let program = self.arguments.first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or(program)
    }
}

/// Returns all processes with `needle` in their command line or environment.
pub fn mentioning(needle: &Path) -> Vec<Other> {
    let needle = needle.to_str().expect("a readable path");
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    entries
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            // The process may be gone. A zombie has no command line.
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            let arguments = line.trim_end_matches('\0').split('\0').map(str::to_owned);
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let mentions = line.contains(needle) || String::from_utf8_lossy(&environment).contains(needle);
            (mentions && !line.is_empty()).then(|| Other {
                id,
                arguments: arguments.collect(),
            })
        })
        .collect()
}

/// Sends a signal. A process that already exited is not an error.
pub(crate) fn send(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let _already_gone = kill_process(pid.expect("a process has an id"), signal);
}
