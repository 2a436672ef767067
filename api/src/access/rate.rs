//! A key's rate limit, and the `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers-10).

use std::num::NonZeroU32;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use precis_schemas::ErrorCode;

use crate::http::problem::ApiError;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A token bucket that refills steadily (GCRA).
pub(super) struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
    /// Requests in a full bucket.
    burst: NonZeroU32,
    /// Time in which one request refills.
    refill_interval: Duration,
}

impl std::fmt::Debug for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rate")
            .field("burst", &self.burst)
            .field("refill_interval", &self.refill_interval)
            .finish_non_exhaustive()
    }
}

/// A request over the limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exceeded<'a> {
    rate: &'a Rate,
    wait: Duration,
}

impl Rate {
    /// Creates a limit of `per_minute` requests, of which `burst` may come at once. Returns `None` for a rate of zero.
    pub(super) fn new(per_minute: u32, burst: Option<u32>) -> Option<Self> {
        let quota = quota(per_minute, burst)?;
        Some(Self {
            limiter: RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>(),
            clock: DefaultClock::default(),
            burst: quota.burst_size(),
            refill_interval: quota.replenish_interval(),
        })
    }

    /// Takes one request out of the bucket. Returns the number of requests left.
    pub(super) fn spend(&self) -> Result<u32, Exceeded<'_>> {
        match self.limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => Err(Exceeded {
                rate: self,
                wait: not_until.wait_time_from(self.clock.now()),
            }),
        }
    }

    /// Seconds until `requests` have refilled, rounded up.
    fn seconds_for(&self, requests: u32) -> u64 {
        (self.refill_interval * requests).as_secs_f64().ceil() as u64
    }

    /// Writes the `RateLimit` headers. The policy states the size of the bucket and the time in which an empty one
    /// refills.
    pub(super) fn write(&self, headers: &mut HeaderMap, left: u32) {
        let burst = self.burst.get();
        let window = self.seconds_for(burst).max(1);
        let full_in = self.seconds_for(burst.saturating_sub(left));
        let texts = [
            (RATE_LIMIT_POLICY, format!("\"key\";q={burst};w={window}")),
            (RATE_LIMIT, format!("\"key\";r={left};t={full_in}")),
        ];
        for (name, text) in texts {
            // Plain ASCII: always a valid header value.
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

/// Returns a bucket of `burst` requests, by default `per_minute`, that refills with `per_minute`; `None` for a rate of zero.
fn quota(per_minute: u32, burst: Option<u32>) -> Option<Quota> {
    let per_minute = NonZeroU32::new(per_minute)?;
    let burst = burst.and_then(NonZeroU32::new).unwrap_or(per_minute);
    Some(Quota::per_minute(per_minute).allow_burst(burst))
}

impl IntoResponse for Exceeded<'_> {
    fn into_response(self) -> Response {
        let seconds = self.wait.as_secs_f64().ceil().max(1.0) as u64;
        let message = format!(
            "this key may send {} requests at once and then one every {:?}",
            self.rate.burst, self.rate.refill_interval
        );
        let mut response = ApiError::new(ErrorCode::RateLimited, message).into_response();
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        self.rate.write(headers, 0);
        response
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn an_empty_bucket_reports_when_to_retry() {
        let rate = Rate::new(60, Some(2)).unwrap();
        let left = |left: u32| {
            let mut headers = HeaderMap::new();
            rate.write(&mut headers, left);
            assert_eq!(headers[RATE_LIMIT_POLICY], "\"key\";q=2;w=2");
            headers[RATE_LIMIT].to_str().unwrap().to_owned()
        };
        assert_eq!(left(rate.spend().unwrap()), "\"key\";r=1;t=1");
        assert_eq!(left(rate.spend().unwrap()), "\"key\";r=0;t=2");
        let refused = rate.spend().unwrap_err().into_response();
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert_eq!(refused.headers()[RATE_LIMIT], "\"key\";r=0;t=2");
        assert!(Rate::new(0, None).is_none());
    }

    #[test]
    fn an_unused_key_may_send_its_burst_and_then_the_steady_rate() {
        for (burst, in_the_first_minute) in [(None, 119), (Some(1), 60), (Some(10), 69)] {
            let clock = FakeRelativeClock::default();
            let limiter = RateLimiter::direct_with_clock(quota(60, burst).unwrap(), clock.clone());
            let mut accepted = 0;
            for _ in 0..60_000 {
                while limiter.check().is_ok() {
                    accepted += 1;
                }
                clock.advance(Duration::from_millis(1));
            }
            assert_eq!(accepted, in_the_first_minute, "{burst:?}");
        }
    }
}
