//! Webhooks: post the end of a job or a batch to its callback.
//!
//! The process that stores the end of a job publishes an announcement to the stream `WEBHOOKS`
//! (`precis_runtime::webhooks`). The gateways share that stream: each announcement is delivered by one of them, and
//! none is lost when a process dies.
//!
//! `gateway/webhook_payload.rs` renders the payloads.
//!
//! | file | what it does |
//! | --- | --- |
//! | `target.rs`, `network.rs` | decides which URLs and networks may be called |
//! | `signature.rs` | signs as Standard Webhooks specifies |
//! | `post.rs` | makes one attempt |
//! | `receivers.rs` | limits the parallel attempts to one receiver, and those for one tenant |
//! | `sender.rs` | takes announcements, retries, gives up after the deadline |

mod network;
mod post;
mod receivers;
pub(crate) mod sender;
mod signature;
mod target;

use precis_runtime::config::{AccessConfig, WebhooksConfig};
use precis_schemas::callback::Callback;
use precis_schemas::error_code::{ErrorCode, Refusal};

use self::signature::Secrets;
use self::target::TargetPolicy;
use crate::access::Caller;
use crate::queue::QueueBackend;

/// The callback policy and the secrets of the configuration.
#[derive(Debug)]
pub(crate) struct Webhooks {
    policy: TargetPolicy,
    secrets: Secrets,
    settings: WebhooksConfig,
}

impl Webhooks {
    /// Reads the configuration.
    pub(crate) fn new(settings: &WebhooksConfig, access: &AccessConfig) -> Self {
        Self {
            policy: TargetPolicy::new(settings),
            secrets: Secrets::new(settings, access),
            settings: settings.clone(),
        }
    }

    /// Returns the callback that a request asks for.
    ///
    /// # Errors
    /// Returns [`ErrorCode::CallbackRefused`] if the URL may not be called or there is no secret to sign with, and
    /// [`ErrorCode::NeedsQueue`] if `queue` is not durable.
    pub(crate) fn callback(
        &self,
        url: Option<String>,
        caller: &Caller,
        queue: &dyn QueueBackend,
    ) -> Result<Option<Callback>, Refusal> {
        let Some(url) = url else { return Ok(None) };
        queue.require_durable("a callback")?;
        let refused = |reason: &dyn std::fmt::Display| {
            Refusal::new(ErrorCode::CallbackRefused, format!("callback_url: {reason}"))
        };
        self.policy.check(&url).map_err(|violation| refused(&violation))?;
        let callback = Callback {
            url,
            key: caller.key_name().cloned(),
        };
        if self.secrets.signer(&callback, caller.tenant()).is_none() {
            return Err(refused(
                &"there is no secret to sign with: set webhooks.secret, or the webhook_secret of the API key",
            ));
        }
        Ok(Some(callback))
    }
}
