//! Processor time and memory of this process and its descendants, from `/proc`. Empty on systems without it.

use std::collections::{BTreeMap, HashMap};
use std::fs;

/// The file name of the NATS server's program.
pub(crate) const NATS_SERVER: &str = "nats-server";

/// Returns the process id of the running nats-server that this process started, if there is one.
pub(crate) fn nats_server() -> Option<u32> {
    let processes = all_processes();
    let own = std::process::id();
    processes
        .keys()
        .copied()
        .find(|id| descends_from(&processes, *id, own) && process_name(*id) == NATS_SERVER)
}

/// Returns the process id of a child of the process `id`, if it has one.
pub(crate) fn child_of(id: u32) -> Option<u32> {
    let processes = all_processes();
    let mut children = processes.iter().filter(|(_, process)| process.parent == id);
    children.next().map(|(child, _)| *child)
}

/// Returns the resident memory of a process, in megabytes.
pub(crate) fn resident_megabytes(id: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64 / 1e6)
}

/// Returns seconds of processor time by process name: a role, `nats-server`, or `bench` for this process.
pub(crate) fn processor_seconds() -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    let processes = all_processes();
    let own = std::process::id();
    for (id, process) in &processes {
        if descends_from(&processes, *id, own) {
            let name = if *id == own {
                "bench".to_owned()
            } else {
                process_name(*id)
            };
            *seconds.entry(name).or_insert(0.0) += process.seconds;
        }
    }
    seconds
}

/// Returns the processor time between two readings, by process name.
pub(crate) fn difference(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    let since = |(name, seconds): (&String, &f64)| {
        let spent = seconds - before.get(name).copied().unwrap_or_default();
        (name.clone(), spent)
    };
    after.iter().map(since).collect()
}

struct Process {
    parent: u32,
    seconds: f64,
}

fn all_processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let read = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The program's name is in parentheses and may contain spaces and parentheses.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let process = Process {
            parent: fields.get(1)?.parse().ok()?,
            seconds: (number(11)? + number(12)?) / ticks,
        };
        Some((id, process))
    };
    entries.flatten().filter_map(read).collect()
}

fn descends_from(processes: &HashMap<u32, Process>, id: u32, ancestor: u32) -> bool {
    let mut at = id;
    while at != ancestor {
        match processes.get(&at) {
            Some(process) if process.parent != at => at = process.parent,
            _ => return false,
        }
    }
    true
}

/// Returns the role of a `precis` process (its first argument), or another program's file name.
fn process_name(id: u32) -> String {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let mut arguments = line.split('\0');
    let program = arguments.next().unwrap_or_default();
    let file = program.rsplit('/').next().unwrap_or_default();
    match arguments.next() {
        Some(role) if file.starts_with("precis") && !role.is_empty() => role.to_owned(),
        _ => file.to_owned(),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_list_includes_this_process() {
        assert!(super::processor_seconds().contains_key("bench"));
    }
}
