//! Releases memory that the engine needed only to start.
//!
//! Starting the 566 MB library touches some 200 MB of its code and constants, most of which an idle engine never uses
//! again. They are clean file pages: the kernel drops them on request and reads them back when they are used.

use std::path::Path;

/// Asks the kernel to drop the resident pages of the library at `path`. Returns the size of the mappings in bytes, or 0
/// where the system has no such request.
#[cfg(target_os = "linux")]
pub(crate) fn page_out(path: &Path) -> usize {
    use rustix::mm::{Advice, madvise};

    let (Ok(path), Ok(maps)) = (path.canonicalize(), std::fs::read_to_string("/proc/self/maps")) else {
        return 0;
    };
    let mappings = maps.lines().filter_map(|line| read_only_mapping(line, &path));
    let released = mappings.filter(|(start, length)| {
        // SAFETY: paging out never changes contents, and the library stays mapped until the process ends.
        unsafe {
            madvise(
                std::ptr::with_exposed_provenance_mut(*start),
                *length,
                Advice::LinuxPageOut,
            )
        }
        .is_ok()
    });
    released.map(|(_, length)| length).sum()
}

/// Does nothing: only Linux has the request.
#[cfg(not(target_os = "linux"))]
pub(crate) fn page_out(_: &Path) -> usize {
    0
}

/// Parses a line of `/proc/self/maps`. Returns start and length of a mapping of `path` that is not writable.
#[cfg(target_os = "linux")]
fn read_only_mapping(line: &str, path: &Path) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_writable = fields.next()?.contains('w');
    if is_writable || Path::new(fields.nth(3)?) != path {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_mappings_of_the_library_are_paged_out() {
        let parse = |line: &str| read_only_mapping(line, Path::new("/lib/libchdb.so"));
        let code = "7fd2ee56e000-7fd2ee570000 r-xp 0916d000 08:01 42   /lib/libchdb.so";
        assert_eq!(parse(code), Some((0x7fd2_ee56_e000, 0x2000)));
        assert_eq!(parse(&code.replace("r-xp", "rw-p")), None);
        assert_eq!(parse(&code.replace("libchdb", "libc")), None);
        assert_eq!(parse("7ffd0000-7ffd1000 r-xp 00000000 00:00 0"), None);
    }

    #[test]
    fn paged_out_code_still_runs() {
        let program = std::env::current_exe().unwrap();
        assert!(page_out(&program) > 0);
        assert_eq!(page_out(Path::new("/nonexistent")), 0);
    }
}
