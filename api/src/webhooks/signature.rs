//! Standard Webhooks (<https://www.standardwebhooks.com>), version 1: `webhook-id`, `webhook-timestamp`, and in
//! `webhook-signature` an HMAC-SHA256 over both and the body.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use precis_runtime::config::{AccessConfig, WebhooksConfig, parse_webhook_secrets};
use precis_schemas::Token;
use precis_schemas::callback::Callback;
use sha2::Sha256;

/// The keys of one receiver: one, or several while one is replaced by another.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Signer(Vec<Vec<u8>>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Signer {
    /// The header `webhook-signature`: a signature with each key, separated by spaces. `timestamp` is in seconds.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &Vec<u8>| {
            // HMAC takes keys of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.0.iter().filter_map(one).collect::<Vec<_>>().join(" ")
    }
}

/// With what the webhooks of which key are signed.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// By the key's name: its tenant, and its own keys.
    keys: HashMap<Token, (Token, Signer)>,
    everybody: Option<Signer>,
}

impl Secrets {
    /// The secrets of the configuration, which has checked them.
    pub(crate) fn new(settings: &WebhooksConfig, access: &AccessConfig) -> Self {
        let signer = |text: &str| parse_webhook_secrets(text).map(Signer);
        let keys = access.keys.iter().filter_map(|key| {
            let own = signer(key.webhook_secret.as_ref()?.expose())?;
            Some((Token::sanitized(&key.name), (Token::sanitized(key.tenant()), own)))
        });
        Self {
            keys: keys.collect(),
            everybody: settings
                .secret
                .as_ref()
                .and_then(|secret| signer(secret.expose())),
        }
    }

    /// What a callback of this tenant is signed with. The secret of a key signs only for the key's own tenant,
    /// whatever a job that came over NATS says.
    pub(super) fn of(&self, callback: &Callback, tenant: &Token) -> Option<&Signer> {
        let own = callback.key.as_ref().and_then(|key| self.keys.get(key));
        match own {
            Some((owner, signer)) if owner == tenant => Some(signer),
            _ => self.everybody.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_standards_own_example() {
        let signer = Signer(parse_webhook_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let signature = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_make_two_signatures_while_one_replaces_the_other() {
        let keys = parse_webhook_secrets(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        );
        let signature = Signer(keys.unwrap()).sign("a", 1, b"");
        assert_eq!(
            signature.split(' ').filter(|one| one.starts_with("v1,")).count(),
            2
        );
    }

    #[test]
    fn a_keys_secret_signs_for_its_own_tenant_only() {
        let text = "[webhooks]\nsecret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n[[access.keys]]\nname = 'one'\n\
             hash = 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'\n\
             webhook_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'";
        let config = precis_runtime::Config::from_toml(text).unwrap();
        let secrets = Secrets::new(&config.webhooks, &config.access);
        let callback = Callback {
            url: "https://a.example".into(),
            key: Some(Token::sanitized("one")),
        };
        let everybody = secrets.everybody.as_ref();
        assert_ne!(secrets.of(&callback, &Token::sanitized("one")), everybody);
        assert_eq!(secrets.of(&callback, &Token::sanitized("two")), everybody);
    }
}
