//! Queries to the analytics database: named queries, and lookups of single predictions.

mod bulk;
pub(crate) mod endpoints;
mod predictions;
mod routes;

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clickhouse::Client;
use clickhouse::error::Error;
use precis_runtime::config::ClickHouseConfig;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::queries::NamedQuery;
use precis_schemas::{JobId, Token};
use tokio::time::timeout;

/// Largest response, in bytes: a safety net beyond the limits of the queries themselves.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Extra time for the response after the server's own time limit.
const GRACE: Duration = Duration::from_secs(2);

/// How long a database that works takes to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// An object with `meta`, `data` and `rows`.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// An Apache Arrow stream.
    Arrow,
}

impl Format {
    /// The name of the format in ClickHouse.
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSVWithNames",
            Self::Arrow => "ArrowStream",
        }
    }

    /// Returns the statement whose result is answered. ClickHouse writes a `DateTime` to Arrow as a plain integer, so
    /// points in time get milliseconds there.
    fn statement(self, query: &NamedQuery) -> Cow<'static, str> {
        let has_time = query
            .parameters
            .iter()
            .any(|parameter| parameter.name == "bucket");
        if self != Self::Arrow || !has_time {
            return Cow::Borrowed(query.sql);
        }
        Cow::Owned(format!(
            "SELECT * REPLACE (toDateTime64(time, 3, 'UTC') AS time) FROM (\n{}\n)",
            query.sql
        ))
    }

    /// The media type of the response.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A stored prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPrediction {
    /// The tenant that it belongs to.
    pub(crate) tenant: Token,
    /// Whether the row still contains the whole summary.
    pub(crate) has_summary: bool,
}

/// A client of the analytics database.
pub(crate) struct Analytics {
    client: Client,
    time_limit: Duration,
}

impl Analytics {
    /// Creates a client. Connects at the first query.
    pub(crate) fn new(settings: &ClickHouseConfig) -> Self {
        let mut client = Client::default()
            .with_url(settings.url.expose())
            .with_user(&settings.user)
            .with_database(&settings.database)
            .with_product_info("precis-api", env!("CARGO_PKG_VERSION"));
        if let Some(password) = &settings.password {
            client = client.with_password(password.expose());
        }
        Self {
            client,
            time_limit: Duration::from_secs(settings.query_timeout_seconds),
        }
    }

    /// Runs a named query with these parameters.
    ///
    /// # Errors
    /// If the database is unavailable, rejects the query or exceeds the time limit, or if the response is too large.
    pub(crate) async fn run(
        &self,
        query: &NamedQuery,
        values: &[(String, String)],
        format: Format,
    ) -> Result<Bytes, Refusal> {
        let sql = format.statement(query);
        let mut prepared = self
            .client
            .query_raw(&sql)
            .with_setting("max_execution_time", self.time_limit.as_secs().to_string())
            // Stops the query when the client disconnects.
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_arrow_string_as_string", "1")
            .with_setting("output_format_arrow_date_as_uint16", "0");
        for (name, value) in values {
            prepared = prepared.param(name, value);
        }
        let collect = async {
            let mut cursor = prepared.fetch_bytes(format.name())?;
            let mut response = BytesMut::new();
            while let Some(chunk) = cursor.next().await? {
                if response.len() + chunk.len() > MAX_RESPONSE_BYTES {
                    return Ok(None);
                }
                response.extend_from_slice(&chunk);
            }
            Ok(Some(response.freeze()))
        };
        match timeout(self.time_limit + GRACE, collect).await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err(Refusal::new(
                ErrorCode::InvalidParameter,
                "the response is too large; request a shorter window or wider buckets",
            )),
            Ok(Err(error)) => Err(self.refusal(query.name, &error)),
            Err(_) => Err(self.refusal(query.name, &Error::TimedOut)),
        }
    }

    /// Checks that the database answers within two seconds.
    ///
    /// # Errors
    /// If it does not, with the reason.
    pub(crate) async fn ping(&self) -> Result<(), Refusal> {
        let query = self.client.query("SELECT 1").fetch_one::<u8>();
        let answer = timeout(PING_TIMEOUT, query).await;
        answer
            .unwrap_or(Err(Error::TimedOut))
            .map(|_| ())
            .map_err(|error| {
                tracing::debug!(%error, "the analytics database does not answer");
                Refusal::new(
                    ErrorCode::AnalyticsUnavailable,
                    "the analytics database does not answer",
                )
            })
    }

    /// Whether this tenant has a prediction of the job. Returns `false` too if the database does not answer soon.
    pub(crate) async fn knows(&self, id: &JobId, tenant: &Token) -> bool {
        match timeout(self.time_limit.min(GRACE), self.find(id)).await {
            Ok(Ok(found)) => found.is_some_and(|(owner, _)| owner == tenant.as_str()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "looking up a prediction failed");
                false
            }
            Err(_) => false,
        }
    }

    /// Returns the tenant of a job's prediction, and 1 if the row contains the whole summary, else 0. Must agree with
    /// `PredictionRow::has_whole_summary` of the monitor.
    async fn find(&self, id: &JobId) -> Result<Option<(String, u8)>, Error> {
        let query = self.client.query(
            "SELECT tenant, toUInt8(text_policy IN ('full', 'truncated') AND lengthUTF8(summary) = summary_chars)
             FROM prediction_versions
             WHERE job_id = ? ORDER BY finished_at DESC, version DESC LIMIT 1",
        );
        query.bind(id.as_str()).fetch_optional().await
    }

    /// Returns the prediction of a job, if it is stored.
    ///
    /// # Errors
    /// If the database is unavailable, rejects the query or exceeds the time limit.
    pub(crate) async fn prediction(&self, id: &JobId) -> Result<Option<StoredPrediction>, Refusal> {
        let found = timeout(self.time_limit, self.find(id)).await;
        let row = found
            .unwrap_or(Err(Error::TimedOut))
            .map_err(|error| self.refusal("the prediction of a job", &error))?;
        Ok(row.map(|(tenant, has_summary)| StoredPrediction {
            tenant: Token::sanitized(&tenant),
            has_summary: has_summary != 0,
        }))
    }

    fn refusal(&self, what: &str, error: &Error) -> Refusal {
        // The error may name hosts and quote rows, so only the log gets it.
        let text: String = error.to_string().chars().take(500).collect();
        tracing::warn!(query = what, error = text, "analytics query failed");
        let too_long = match error {
            Error::TimedOut => true,
            // TIMEOUT_EXCEEDED
            Error::BadResponse(message) => message.contains("Code: 159."),
            _ => false,
        };
        Refusal::new(
            ErrorCode::AnalyticsUnavailable,
            if too_long {
                format!(
                    "the analytics database took longer than {} seconds; request a shorter window",
                    self.time_limit.as_secs()
                )
            } else {
                "the analytics database is unavailable".to_owned()
            },
        )
    }
}
