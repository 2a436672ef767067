//! The authenticated caller of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{Lane, Token};

use super::key::Key;
use crate::http::problem::ApiError;
use crate::queue::QueueBackend;

/// Tenant of requests without a key.
const PUBLIC: &str = "public";

/// The caller of a request. Every handler that creates or shows a job extracts it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    tenant: Token,
    key: Option<Arc<Key>>,
    sees_all: bool,
}

impl Caller {
    /// The caller of a gateway without keys, who may do everything.
    pub(crate) fn unrestricted() -> Self {
        Self {
            tenant: Token::sanitized(PUBLIC),
            key: None,
            sees_all: true,
        }
    }

    /// A caller on behalf of a tenant, for the gateway's own requests.
    pub(crate) fn of_tenant(tenant: Token) -> Self {
        Self {
            tenant,
            key: None,
            sees_all: false,
        }
    }

    /// A caller without a key, on an open route of a gateway with keys.
    pub(super) fn without_key() -> Self {
        Self {
            sees_all: false,
            ..Self::unrestricted()
        }
    }

    /// The holder of this key.
    pub(super) fn with_key(key: Arc<Key>) -> Self {
        Self {
            tenant: key.tenant.clone(),
            sees_all: key.operator,
            key: Some(key),
        }
    }

    /// The tenant of the caller's jobs.
    pub(crate) fn tenant(&self) -> &Token {
        &self.tenant
    }

    /// The name of the caller's key.
    pub(crate) fn key_name(&self) -> Option<&Token> {
        self.key.as_ref().map(|key| &key.name)
    }

    /// The caller's key.
    pub(super) fn key(&self) -> Option<&Arc<Key>> {
        self.key.as_ref()
    }

    /// Whether the caller may see jobs of `tenant`. Any other job must look as if it did not exist.
    pub(crate) fn may_see(&self, tenant: &Token) -> bool {
        self.sees_all || *tenant == self.tenant
    }

    /// Whether the caller may see jobs of every tenant.
    pub(crate) fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// Checks that the caller may see jobs of every tenant.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`].
    pub(crate) fn require_all_tenants(&self) -> Result<(), Refusal> {
        match self.sees_all {
            true => Ok(()),
            false => Err(Refusal::new(
                ErrorCode::Forbidden,
                "this needs the key of an operator, which covers every tenant",
            )),
        }
    }

    /// The lane of a job without a priority: `usual`, or the first lane of a key that does not allow it.
    pub(crate) fn default_lane(&self, usual: Lane) -> Lane {
        let lanes = self.key.as_ref().map_or(&[][..], |key| &key.lanes);
        match lanes.contains(&usual) {
            true => usual,
            false => lanes.first().copied().unwrap_or(usual),
        }
    }

    /// Checks that the key allows jobs in this lane and for this model.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`], naming the allowed values.
    pub(crate) fn may_submit(&self, lane: Lane, model: &Token) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        if !key.lanes.is_empty() && !key.lanes.contains(&lane) {
            let allowed: Vec<&str> = key.lanes.iter().map(|lane| lane.as_str()).collect();
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                format!(
                    "this key may not use the priority {lane}, only {}",
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

    /// Reserves `jobs` in the key's quota.
    ///
    /// # Errors
    /// [`ErrorCode::QuotaExceeded`] if the quota is used up, or an error of the queue.
    pub(crate) async fn reserve(&self, queue: &dyn QueueBackend, jobs: u64) -> Result<(), Refusal> {
        match self.key.as_ref().and_then(|key| key.quota.as_ref()) {
            Some(quota) => quota.reserve(queue, &self.tenant, jobs).await,
            None => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::internal("the route is outside the gate"))
    }
}
