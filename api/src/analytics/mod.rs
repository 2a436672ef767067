//! What is asked of the analytics database: named queries, and whether there is a prediction of a job.

pub(crate) mod endpoints;
mod routes;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clickhouse::Client;
use clickhouse::error::Error;
use precis_runtime::config::ClickHouseConfig;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::queries::NamedQuery;
use precis_schemas::{JobId, Token};
use tokio::time::timeout;

/// Most bytes of an answer. The queries are bounded by buckets and limits; this is for what was not thought of.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How much longer than the server an answer is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// In which form ClickHouse writes an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// An object with `meta`, `data`, `rows`.
    Json,
    /// Comma-separated values with a line of names (RFC 4180).
    Csv,
    /// An Apache Arrow stream.
    Arrow,
}

impl Format {
    /// Name of ClickHouse's format.
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSVWithNames",
            Self::Arrow => "ArrowStream",
        }
    }

    /// Media type of an answer.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A prediction that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Whose it is.
    pub(crate) tenant: Token,
    /// Whether the whole summary is still kept with it.
    pub(crate) with_summary: bool,
}

/// The analytics database.
pub(crate) struct Analytics {
    client: Client,
    patience: Duration,
}

impl Analytics {
    /// The database of this configuration. Nothing is sent yet.
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
            patience: Duration::from_secs(settings.query_timeout_seconds),
        }
    }

    /// The answer to a named query with these values.
    ///
    /// # Errors
    /// When the database can't be reached, takes too long, or refuses.
    pub(crate) async fn run(
        &self,
        query: &NamedQuery,
        values: &[(String, String)],
        format: Format,
    ) -> Result<Bytes, Refusal> {
        let mut prepared = self
            .client
            .query_raw(query.sql)
            .with_setting("max_execution_time", self.patience.as_secs().to_string())
            // A client that leaves has no more need of an answer.
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_arrow_string_as_string", "1");
        for (name, value) in values {
            prepared = prepared.param(name, value);
        }
        let collect = async {
            let mut cursor = prepared.fetch_bytes(format.name())?;
            let mut answer = BytesMut::new();
            while let Some(chunk) = cursor.next().await? {
                if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Ok(None);
                }
                answer.extend_from_slice(&chunk);
            }
            Ok(Some(answer.freeze()))
        };
        match timeout(self.patience + GRACE, collect).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(Refusal::new(
                ErrorCode::InvalidParameter,
                "the answer is too large: ask for a shorter window, or for wider buckets",
            )),
            Ok(Err(error)) => Err(self.refusal(query.name, &error)),
            Err(_) => Err(self.refusal(query.name, &Error::TimedOut)),
        }
    }

    /// Whether a job of this tenant is known. That it is not, or can't be found out soon, is the same.
    pub(crate) async fn knows(&self, id: &JobId, tenant: &Token) -> bool {
        match timeout(self.patience.min(GRACE), self.find(id)).await {
            Ok(Ok(found)) => found.is_some_and(|(owner, _)| owner == tenant.as_str()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "whether a job is known can't be found out");
                false
            }
            Err(_) => false,
        }
    }

    /// The tenant of the prediction of a job, and whether the whole summary stands in it (1) or not (0): as
    /// `PredictionRow::has_whole_summary` of the monitor.
    async fn find(&self, id: &JobId) -> Result<Option<(String, u8)>, Error> {
        let query = self.client.query(
            "SELECT tenant, toUInt8(text_policy IN ('full', 'truncated') AND lengthUTF8(summary) = summary_chars)
             FROM prediction_versions
             WHERE job_id = ? ORDER BY finished_at DESC, version DESC LIMIT 1",
        );
        query.bind(id.as_str()).fetch_optional().await
    }

    /// The prediction of a job, if one is kept.
    ///
    /// # Errors
    /// When the database can't be reached, takes too long, or refuses.
    pub(crate) async fn kept(&self, id: &JobId) -> Result<Option<Kept>, Refusal> {
        let found = timeout(self.patience, self.find(id)).await;
        let row = found
            .unwrap_or(Err(Error::TimedOut))
            .map_err(|error| self.refusal("the prediction of a job", &error))?;
        Ok(row.map(|(tenant, with_summary)| Kept {
            tenant: Token::sanitized(&tenant),
            with_summary: with_summary != 0,
        }))
    }

    fn refusal(&self, what: &str, error: &Error) -> Refusal {
        // It may name hosts and quote rows: for the log, not for the client.
        let text: String = error.to_string().chars().take(500).collect();
        tracing::warn!(
            query = what,
            error = text,
            "the analytics database did not answer"
        );
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
                    "the analytics database took longer than {} seconds; a shorter window may help",
                    self.patience.as_secs()
                )
            } else {
                "the analytics database can't answer at the moment".to_owned()
            },
        )
    }
}
