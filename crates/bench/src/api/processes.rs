//! Processor time of this process and of those that it has started, from `/proc`; nothing on other systems.

use std::collections::{BTreeMap, HashMap};
use std::fs;

/// Seconds of processor time by name: a role, `nats-server`, or `bench` for this process.
pub(super) fn processor_seconds() -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    let processes = all();
    let own = std::process::id();
    for (id, process) in &processes {
        if descends(&processes, *id, own) {
            let name = if *id == own {
                "bench".to_owned()
            } else {
                name_of(*id)
            };
            *seconds.entry(name).or_insert(0.0) += process.seconds;
        }
    }
    seconds
}

/// What was spent between two looks.
pub(super) fn spent(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
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

fn all() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let read = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name of the program stands in parentheses and may hold anything.
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

fn descends(processes: &HashMap<u32, Process>, id: u32, from: u32) -> bool {
    let mut at = id;
    while at != from {
        match processes.get(&at) {
            Some(process) if process.parent != at => at = process.parent,
            _ => return false,
        }
    }
    true
}

/// The role that a process plays: the first argument of our own program, the file name of another.
fn name_of(id: u32) -> String {
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
    fn this_process_is_among_them() {
        assert!(super::processor_seconds().contains_key("bench"));
    }
}
