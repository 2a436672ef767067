//! Checks before loading whether a model fits into memory. The kernel would kill the process without an error message.

use std::path::Path;

use crate::config::ModelConfig;
use crate::error::{LoadError, Result};

/// Refuses a model that needs more memory than available. `limit` caps the memory in bytes; 0 means all free memory. If
/// the free memory is unknown, any model passes.
pub(crate) fn check(config: &ModelConfig, precision: &str, untied: bool, limit: u64) -> Result<()> {
    let needed = needed(config, precision, untied);
    let available = match limit {
        0 => available(),
        limit => Some(limit),
    };
    match available {
        Some(available) if needed > available => Err(LoadError::Memory { needed, available }),
        _ => Ok(()),
    }
}

/// Returns the bytes that loading needs: the weights plus one f32 copy of the largest tensor. KV caches come on top,
/// bounded by `EngineOptions::cache_bytes`.
fn needed(config: &ModelConfig, precision: &str, untied: bool) -> u64 {
    let table = (config.vocabulary() * config.width()) as u64;
    let (embedding_bytes, weight_bytes) = match precision {
        "f32" => (4, 4),
        // Embeddings stay in bfloat16.
        "int8" => (2, 1),
        _ => (2, 2),
    };
    // The output head is packed separately, even if it is tied to the embedding.
    let others = config.parameters(untied) - table * if untied { 2 } else { 1 };
    table * embedding_bytes + (table + others) * weight_bytes + 4 * table
}

/// Returns the available bytes: the system's, or what remains of the control group's limit if that is less.
fn available() -> Option<u64> {
    let system = std::fs::read_to_string("/proc/meminfo").ok();
    let system = system.as_deref().and_then(parse_meminfo);
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups
        .as_deref()
        .and_then(group_path)
        .and_then(|path| group_remaining(Path::new("/sys/fs/cgroup"), path));
    match (system, group) {
        (Some(system), Some(group)) => Some(system.min(group)),
        (one, other) => one.or(other),
    }
}

/// Parses `MemAvailable` of `/proc/meminfo`.
fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Returns this process's path in the unified control group hierarchy (version 2).
fn group_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// Returns what remains of the tightest limit of a group and its ancestors. Inactive file pages count as free.
fn group_remaining(root: &Path, path: &str) -> Option<u64> {
    let number = |file: &Path| -> Option<u64> { std::fs::read_to_string(file).ok()?.trim().parse().ok() };
    let mut least = None;
    for folder in root.join(path).ancestors() {
        if let (Some(most), Some(used)) = (
            number(&folder.join("memory.max")),
            number(&folder.join("memory.current")),
        ) {
            let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
            let idle: u64 = idle.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
            let left = most.saturating_sub(used.saturating_sub(idle));
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        if folder == root {
            break;
        }
    }
    least
}

/// Returns the resident bytes of this process, if known.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> ModelConfig {
        ModelConfig::from_json(
            br#"{"model_type":"t5","vocab_size":32128,"d_model":512,"d_kv":64,"d_ff":2048,"num_layers":6,
            "num_heads":8,"relative_attention_num_buckets":32}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_both_sizes() {
        // t5-small has 60.5 million parameters; its embedding counts twice, as the head too.
        let table = 32_128 * 512;
        assert_eq!(
            needed(&small(), "f32", false),
            4 * (60_506_624 + table) + 4 * table
        );
        assert!(needed(&small(), "int8", false) < needed(&small(), "bf16", false));
        assert!(check(&small(), "f32", false, 1 << 40).is_ok());
        let error = check(&small(), "f32", false, 100 << 20).unwrap_err().to_string();
        assert!(error.contains("356 MiB") && error.contains("100 MiB"), "{error}");
    }

    #[test]
    fn parses_proc_files() {
        let text = "MemTotal:       24576000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(parse_meminfo(text), Some(20_000_000 * 1024));
        assert_eq!(parse_meminfo("MemTotal: 1 kB\n"), None);
        assert_eq!(group_path("1:memory:/old\n0::/a/b\n"), Some("a/b"));
    }

    #[test]
    fn the_tightest_group_limit_applies() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(group_remaining(root.path(), "a/b"), None);
        let write = |folder: &Path, file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
        write(&inner, "memory.max", "max\n");
        write(&inner, "memory.current", "50\n");
        assert_eq!(group_remaining(root.path(), "a/b"), None);
        let outer = root.path().join("a");
        write(&outer, "memory.max", "1000\n");
        write(&outer, "memory.current", "700\n");
        write(&outer, "memory.stat", "anon 600\ninactive_file 100\n");
        assert_eq!(group_remaining(root.path(), "a/b"), Some(400));
        write(&inner, "memory.max", "60\n");
        assert_eq!(group_remaining(root.path(), "a/b"), Some(10));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reads_this_process() {
        assert!(available().unwrap() > 1 << 20);
        assert!(resident().unwrap() > 1 << 20);
    }
}
