//! The stages of a job, in order.
//!
//! | stage | module | task |
//! | --- | --- | --- |
//! | 1 | [`fetch`] | pull jobs from the lanes, by weight |
//! | 2 | [`decode`] | read the message; check contract, limits and deadline |
//! | 3 | [`tokenize`] | turn the text into tokens |
//! | 4 | [`request`] | build the engine's request, with every parameter filled in |
//! | 5 | [`infer`] | generate, in [chunks](long_text) if the text is too long |
//! | 6 | [`embed`] | compute embeddings, where configured |
//! | 7 | [`result`] | build the result |
//! | 8 | [`score`] | score the summary, for the task `score` |
//! | 9 | [`publish_result`] | publish; the first result wins |
//! | 10 | [`settle`] | acknowledge, retry or hand back the delivery |

pub mod decode;
pub mod embed;
pub mod fetch;
mod generation;
pub mod infer;
pub mod long_text;
pub mod publish_result;
pub mod request;
pub mod result;
pub mod score;
pub mod settle;
pub mod tokenize;
