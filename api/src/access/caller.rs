//! What a handler knows of the caller.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{Lane, Token};

use super::key::Key;
use crate::http::problem::ApiError;
use crate::queue::QueueBackend;
use crate::state::AppState;

/// Account of requests without a key.
const PUBLIC: &str = "public";

/// Whoever sent a request. Every route that makes or shows a job takes it as an argument. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    tenant: Token,
    key: Option<Arc<Key>>,
    sees_all: bool,
}

impl Caller {
    /// The caller of a gateway without keys: whoever reaches it may do everything.
    pub(crate) fn anybody() -> Self {
        Self {
            tenant: Token::sanitized(PUBLIC),
            key: None,
            sees_all: true,
        }
    }

    /// Somebody who acts for a tenant, such as this process itself.
    pub(crate) fn of_tenant(tenant: Token) -> Self {
        Self {
            tenant,
            key: None,
            sees_all: false,
        }
    }

    /// Somebody without a key on an open route of a gateway with keys.
    pub(super) fn without_key() -> Self {
        Self {
            sees_all: false,
            ..Self::anybody()
        }
    }

    /// The holder of a key.
    pub(super) fn holding(key: Arc<Key>) -> Self {
        Self {
            tenant: key.tenant.clone(),
            key: Some(key),
            sees_all: false,
        }
    }

    /// On whose account the caller's jobs are.
    pub(crate) fn tenant(&self) -> &Token {
        &self.tenant
    }

    /// Name of the caller's key.
    pub(crate) fn key_name(&self) -> Option<&Token> {
        self.key.as_ref().map(|key| &key.name)
    }

    /// The caller's key.
    pub(super) fn key(&self) -> Option<&Arc<Key>> {
        self.key.as_ref()
    }

    /// Whether jobs of `tenant` are the caller's to see. What is not does not exist for the caller.
    pub(crate) fn may_see(&self, tenant: &Token) -> bool {
        self.sees_all || *tenant == self.tenant
    }

    /// Whether the caller sees the jobs of every tenant.
    pub(crate) fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// Checks whether the key allows a job in this lane, for this model.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`] with what is allowed.
    pub(crate) fn may_submit(&self, lane: Lane, model: &Token) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        if !key.lanes.is_empty() && !key.lanes.contains(&lane) {
            let allowed: Vec<&str> = key.lanes.iter().map(|lane| lane.as_str()).collect();
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                format!(
                    "this key may not ask for the priority {lane}, only for {}",
                    allowed.join(", ")
                ),
            ));
        }
        if !key.models.is_empty() && !key.models.iter().any(|name| name == model.as_str()) {
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                format!(
                    "this key may not use the model `{model}`, only {}",
                    key.models.join(", ")
                ),
            ));
        }
        Ok(())
    }

    /// Takes room for so many jobs out of the key's share of the queue.
    ///
    /// # Errors
    /// [`ErrorCode::QuotaExceeded`] when there is not enough, or when the queue can't be asked.
    pub(crate) async fn reserve(&self, queue: &dyn QueueBackend, jobs: u64) -> Result<(), Refusal> {
        match self.key.as_ref().and_then(|key| key.quota.as_ref()) {
            Some(quota) => quota.reserve(queue, &self.tenant, jobs).await,
            None => Ok(()),
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::internal("a route outside of the gate"))
    }
}
