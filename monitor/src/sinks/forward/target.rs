//! The interface that every target implements.

use super::http::SendError;
use super::item::Item;

/// A product that predictions are forwarded to.
pub(crate) trait Target: Send + Sync {
    /// Most items in one request.
    fn max_request_items(&self) -> usize;

    /// Most concurrent requests.
    fn concurrency(&self) -> usize;

    /// Whether this target takes items of this kind.
    fn wants(&self, _item: &Item) -> bool {
        true
    }

    /// Returns why the target would reject an item, if that is known before sending it.
    fn rejection(&self, item: &Item) -> Option<String>;

    /// Sends items in one request. Sending them again has no effect at the target, so a request whose response was lost can
    /// be repeated.
    ///
    /// # Errors
    /// When the target rejects the request, lacks its predictions, or is unavailable.
    fn send(&self, items: &[&Item]) -> impl Future<Output = Result<(), SendError>> + Send;
}
