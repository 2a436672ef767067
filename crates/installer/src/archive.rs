//! Extracts one file from a package archive and computes its checksum.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{InstallError, file};

/// A writer that computes the SHA-256 of the data it passes on.
struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Formats bytes as lower-case hexadecimal digits.
fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies `source` to `target` and returns the SHA-256 checksum.
fn copy_hashed(source: &mut impl Read, target: impl Write) -> io::Result<String> {
    let mut writer = HashingWriter {
        inner: target,
        hasher: Sha256::new(),
    };
    let mut chunk = vec![0; 1 << 18];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => writer.write_all(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    writer.flush()?;
    Ok(hex(writer.hasher.finalize()))
}

/// Returns the checksum of a file.
pub(crate) fn sha256_of(path: &Path) -> Result<String, InstallError> {
    let mut source = File::open(path).map_err(file("read", path))?;
    copy_hashed(&mut source, io::sink()).map_err(file("read", path))
}

/// Extracts `member` of a gzipped tar archive to `target` and returns its checksum.
pub(crate) fn extract_from_tgz(
    what: &'static str,
    archive: &Path,
    member: &str,
    target: &Path,
) -> Result<String, InstallError> {
    let damaged = |error: io::Error| InstallError::Archive {
        what,
        reason: error.to_string(),
    };
    let source = File::open(archive).map_err(file("read", archive))?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(source)));
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if entry.path_bytes().as_ref() == member.as_bytes() && entry.header().entry_type().is_file() {
            return write_synced(&mut entry, target);
        }
    }
    Err(InstallError::Archive {
        what,
        reason: format!("it doesn't contain {member}"),
    })
}

/// Extracts the member whose name ends in `suffix` from a wheel, which is a zip archive, and returns its checksum.
pub(crate) fn extract_from_wheel(
    what: &'static str,
    archive: &Path,
    suffix: &str,
    target: &Path,
) -> Result<String, InstallError> {
    let damaged = |reason: String| InstallError::Archive { what, reason };
    let mut source = File::open(archive).map_err(file("read", archive))?;
    let member = find_member(&mut source, suffix)
        .map_err(|error| damaged(error.to_string()))?
        .ok_or_else(|| damaged(format!("it contains no file …{suffix}")))?;
    source
        .seek(SeekFrom::Start(member.start))
        .map_err(file("read", archive))?;
    let compressed = source.take(member.compressed_size);
    match member.method {
        0 => write_synced(&mut { compressed }, target),
        8 => write_synced(&mut flate2::read::DeflateDecoder::new(compressed), target),
        other => Err(damaged(format!("compression method {other} is not supported"))),
    }
}

fn write_synced(source: &mut impl Read, target: &Path) -> Result<String, InstallError> {
    let mut written = File::create(target).map_err(file("write", target))?;
    let sum = copy_hashed(source, &mut written).map_err(file("write", target))?;
    written.sync_all().map_err(file("write", target))?;
    Ok(sum)
}

/// A member of a zip archive.
struct Member {
    /// Offset of its data.
    start: u64,
    compressed_size: u64,
    method: u16,
}

/// Finds a member by the end of its name in the archive's central directory.
fn find_member(source: &mut (impl Read + Seek), suffix: &str) -> io::Result<Option<Member>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a zip archive");
    let length = source.seek(SeekFrom::End(0))?;
    // The end record has 22 bytes. A comment of up to 64 KB may follow it.
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
        if name.ends_with(suffix.as_bytes()) {
            let (method, compressed_size, offset) = (u16_at(rest, 10), u32_at(rest, 20), u32_at(rest, 42));
            let mut local = [0; 30];
            source.seek(SeekFrom::Start(offset.into()))?;
            source.read_exact(&mut local)?;
            let names = u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
            return Ok(Some(Member {
                start: u64::from(offset) + 30 + names,
                compressed_size: compressed_size.into(),
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
    pub(crate) fn write_wheel(path: &Path, member: &str, data: &[u8], deflated: bool) {
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

    /// Writes a gzipped tar archive with `package.json` and one member.
    pub(crate) fn write_tgz(path: &Path, member: &str, data: &[u8]) {
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
    fn members_are_extracted_with_their_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, target) = (folder.path().join("a"), folder.path().join("b"));
        let data = b"binary\0data".repeat(10_000);
        let expected = hex(Sha256::digest(&data));
        for deflated in [false, true] {
            write_wheel(&archive, "x.data/scripts/tool", &data, deflated);
            assert_eq!(
                extract_from_wheel("x", &archive, "/scripts/tool", &target).unwrap(),
                expected
            );
            assert_eq!(std::fs::read(&target).unwrap(), data);
        }
        write_tgz(&archive, "package/lib.so", &data);
        assert_eq!(
            extract_from_tgz("x", &archive, "package/lib.so", &target).unwrap(),
            expected
        );
        assert_eq!(sha256_of(&target).unwrap(), expected);
    }

    #[test]
    fn missing_members_and_damaged_archives_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, target) = (folder.path().join("a"), folder.path().join("b"));
        write_wheel(&archive, "other", b"x", false);
        assert!(matches!(
            extract_from_wheel("x", &archive, "/tool", &target),
            Err(InstallError::Archive { .. })
        ));
        write_tgz(&archive, "other", b"x");
        assert!(matches!(
            extract_from_tgz("x", &archive, "tool", &target),
            Err(InstallError::Archive { .. })
        ));
        assert!(matches!(
            extract_from_wheel("x", &archive, "/tool", &target),
            Err(InstallError::Archive { .. })
        ));
        std::fs::write(&archive, "nothing").unwrap();
        assert!(matches!(
            extract_from_tgz("x", &archive, "tool", &target),
            Err(InstallError::Archive { .. })
        ));
        assert!(matches!(
            extract_from_wheel("x", &archive, "/tool", &target),
            Err(InstallError::Archive { .. })
        ));
    }
}
