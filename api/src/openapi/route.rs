//! A path with its handlers and their documentation: the one source of both the router and the OpenAPI document.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};

use super::operation::Operation;

/// A path with its handlers, which share the state `S`, and their documentation.
pub(crate) struct Route<S> {
    pub(super) path: &'static str,
    pub(super) operations: Vec<(&'static str, Operation)>,
    handlers: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// Creates a route without handlers. `path` has axum's syntax, which is OpenAPI's too.
    pub(crate) fn new(path: &'static str) -> Self {
        Self {
            path,
            operations: Vec::new(),
            handlers: MethodRouter::new(),
        }
    }

    /// Handles `GET` and `HEAD`.
    pub(crate) fn get<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.on(MethodFilter::GET, "get", handler, operation)
    }

    /// Handles `POST`.
    pub(crate) fn post<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.on(MethodFilter::POST, "post", handler, operation)
    }

    /// Handles `DELETE`.
    pub(crate) fn delete<H, T>(self, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.on(MethodFilter::DELETE, "delete", handler, operation)
    }

    fn on<H, T>(
        mut self,
        filter: MethodFilter,
        method: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.handlers = self.handlers.on(filter, handler);
        self.operations.push((method, operation));
        self
    }

    /// Changes the handlers, for example to add a layer or a fallback.
    pub(crate) fn map(mut self, change: impl FnOnce(MethodRouter<S>) -> MethodRouter<S>) -> Self {
        self.handlers = change(self.handlers);
        self
    }

    /// Adds the route to a router.
    pub(crate) fn add_to(self, router: Router<S>) -> Router<S> {
        router.route(self.path, self.handlers)
    }

    /// Returns every operation as method and path, for example `GET /v1/jobs/{id}`.
    #[cfg(test)]
    pub(crate) fn operations(&self) -> impl Iterator<Item = String> {
        self.operations
            .iter()
            .map(|(method, _)| format!("{} {}", method.to_uppercase(), self.path))
    }
}
