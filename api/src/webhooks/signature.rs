//! Signs webhooks as Standard Webhooks (<https://www.standardwebhooks.com>) version 1 specifies: `webhook-signature` is
//! an HMAC-SHA256 of `webhook-id`, `webhook-timestamp` and the body.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use precis_runtime::config::{AccessConfig, WebhooksConfig, parse_webhook_secrets};
use precis_schemas::Token;
use precis_schemas::callback::Callback;
use sha2::Sha256;

/// Signs with one key, or with several during key rotation.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signer(Vec<Vec<u8>>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Signer {
    /// Returns the header `webhook-signature`: one signature per key, separated by spaces. `timestamp` is in seconds.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signature = |key: &Vec<u8>| {
            // HMAC accepts keys of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.0.iter().filter_map(signature).collect::<Vec<_>>().join(" ")
    }
}

/// The webhook secrets of the configuration.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Tenant and signer by the name of the API key.
    keys: HashMap<Token, (Token, Signer)>,
    default: Option<Signer>,
}

impl Secrets {
    /// Reads the secrets. The configuration has validated them.
    pub(super) fn new(settings: &WebhooksConfig, access: &AccessConfig) -> Self {
        let signer = |text: &str| parse_webhook_secrets(text).map(Signer);
        let keys = access.keys.iter().filter_map(|key| {
            let own = signer(key.webhook_secret.as_ref()?.expose())?;
            Some((Token::sanitized(&key.name), (Token::sanitized(key.tenant()), own)))
        });
        Self {
            keys: keys.collect(),
            default: settings
                .secret
                .as_ref()
                .and_then(|secret| signer(secret.expose())),
        }
    }

    /// Returns the signer for a callback of this tenant. The secret of an API key signs only for the key's own tenant:
    /// a job published over NATS may name any key.
    pub(super) fn signer(&self, callback: &Callback, tenant: &Token) -> Option<&Signer> {
        let own = callback.key.as_ref().and_then(|key| self.keys.get(key));
        match own {
            Some((owner, signer)) if owner == tenant => Some(signer),
            _ => self.default.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_matches_the_example_of_the_standard() {
        let signer = Signer(parse_webhook_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let signature = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn key_rotation_produces_a_signature_per_secret() {
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
    fn the_secret_of_a_key_signs_for_its_own_tenant_only() {
        let text = "[webhooks]\nsecret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n[[access.keys]]\nname = 'one'\n\
             hash = 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'\n\
             webhook_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'";
        let config = precis_runtime::Config::from_toml(text).unwrap();
        let secrets = Secrets::new(&config.webhooks, &config.access);
        let callback = Callback {
            url: "https://a.example".into(),
            key: Some(Token::sanitized("one")),
        };
        let default = secrets.default.as_ref();
        assert_ne!(secrets.signer(&callback, &Token::sanitized("one")), default);
        assert_eq!(secrets.signer(&callback, &Token::sanitized("two")), default);
    }
}
