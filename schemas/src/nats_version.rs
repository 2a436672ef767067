//! The versions of nats-server that Precis works with.

/// A version: major, minor, patch.
pub type Version = (u32, u32, u32);

/// The oldest version that has every feature Precis uses.
pub const OLDEST: Version = (2, 11, 0);

/// Versions that lose the jobs of a work queue with three replicas once they reach the maximum number of deliveries:
/// <https://github.com/nats-io/nats-server/issues/7817>.
pub const LOSES_JOBS: [Version; 2] = [(2, 12, 3), (2, 12, 4)];

/// A nats-server that Precis refuses to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedServer {
    /// It lacks features.
    #[error(
        "nats-server {0} is too old: Precis needs {major}.{minor} or later; upgrade the server",
        major = OLDEST.0,
        minor = OLDEST.1
    )]
    TooOld(String),
    /// It is known to lose jobs.
    #[error(
        "nats-server {0} can lose queued jobs in a cluster (nats-server issue 7817, versions 2.12.3 and 2.12.4); \
         upgrade to 2.12.5 or later"
    )]
    LosesJobs(String),
    /// Its version can't be read.
    #[error("the server reports the version {0:?}, which is not a version of nats-server")]
    Unknown(String),
}

/// Parses a version such as `2.12.5`, `v2.14.0-RC.1` or `2.9`. Returns `None` for anything else.
pub fn parse(text: &str) -> Option<Version> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut numbers = text.split(['.', '-', '+']);
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

/// Checks the version that a server reports.
///
/// # Errors
/// If it is too old, known to lose jobs, or unreadable.
pub fn check(reported: &str) -> Result<(), UnsupportedServer> {
    match parse(reported) {
        None => Err(UnsupportedServer::Unknown(reported.to_owned())),
        Some(version) if version < OLDEST => Err(UnsupportedServer::TooOld(reported.to_owned())),
        Some(version) if LOSES_JOBS.contains(&version) => {
            Err(UnsupportedServer::LosesJobs(reported.to_owned()))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_lack_features_or_lose_jobs_are_refused() {
        for good in ["2.11.0", "2.12.2", "2.12.5", "2.15.1", "v2.14.0-RC.1", "3.0.0"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "2.10.26",
            "1.99.0",
            "2.12.3",
            "2.12.4",
            "2.12.3-RC.2",
            "",
            "nightly",
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
        assert!(
            check("2.12.4")
                .unwrap_err()
                .to_string()
                .contains("upgrade to 2.12.5")
        );
    }
}
