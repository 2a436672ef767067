//! Webhooks: the end of a job or a batch, posted to the address that came with it.
//!
//! Whoever stores the end of a job announces it in the stream `WEBHOOKS` (`precis_runtime::webhooks`); every gateway takes
//! announcements from there, so that each is posted by one of them, and none is lost when a process goes away.
//!
//! | file | what |
//! | --- | --- |
//! | `target.rs` | which addresses may be called |
//! | `network.rs` | which networks they may be in |
//! | `signature.rs` | Standard Webhooks: headers and secrets |
//! | `payload.rs` | what is posted |
//! | `post.rs` | one attempt |
//! | `sender.rs` | from the stream to the receiver: retries, the deadline, dead letters |

mod network;
mod payload;
mod post;
mod sender;
mod signature;
mod target;

use precis_schemas::callback::Callback;
use precis_schemas::error_code::{ErrorCode, Refusal};

pub(crate) use sender::run;
pub(crate) use signature::Secrets;
pub(crate) use target::Policy;

use crate::access::Caller;
use crate::state::AppState;

/// The callback that a request asks for, if it may be called and there is a secret to sign with.
///
/// # Errors
/// [`ErrorCode::CallbackRefused`] with the reason; [`ErrorCode::NeedsQueue`] where there is none.
pub(crate) fn asked_for(
    state: &AppState,
    caller: &Caller,
    url: Option<String>,
) -> Result<Option<Callback>, Refusal> {
    let Some(url) = url else { return Ok(None) };
    state.queue().require_durable("a callback")?;
    let webhooks = state.webhooks();
    webhooks
        .policy
        .check(&url)
        .map_err(|problem| Refusal::new(ErrorCode::CallbackRefused, format!("callback_url: {problem}")))?;
    let callback = Callback {
        url,
        key: caller.key_name().cloned(),
    };
    if webhooks.secrets.of(&callback, caller.tenant()).is_none() {
        return Err(Refusal::new(
            ErrorCode::CallbackRefused,
            "callback_url: there is no secret to sign with: neither webhooks.secret nor the webhook_secret of the key",
        ));
    }
    Ok(Some(callback))
}

/// What the gateway knows of webhooks from its configuration.
#[derive(Debug)]
pub(crate) struct Webhooks {
    /// Which addresses may be called.
    pub(crate) policy: Policy,
    /// What is signed with.
    pub(crate) secrets: Secrets,
    /// Times and numbers.
    pub(crate) settings: precis_runtime::config::WebhooksConfig,
}

impl Webhooks {
    /// Reads the configuration.
    pub(crate) fn new(
        settings: &precis_runtime::config::WebhooksConfig,
        access: &precis_runtime::config::AccessConfig,
    ) -> Self {
        Self {
            policy: Policy::new(settings),
            secrets: Secrets::new(settings, access),
            settings: settings.clone(),
        }
    }
}
