//! Tests of the SageMaker routes.

use std::time::Duration;

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use precis_schemas::{Channel, JobId};

use super::*;

fn endpoint(path: &str, body: &Value) -> Request<Body> {
    post(&format!("/endpoints/{path}"), body.to_string())
}

#[tokio::test(start_paused = true)]
async fn endpoints_answer_like_sagemaker() {
    let api = with_worker();
    let body = json!({"articles": ["rain"]});
    let plain = api.call(endpoint("summarizer/invocations", &body)).await;
    assert_eq!(plain.body, json!(["RAIN"]));
    assert_eq!(plain.header("x-amzn-invoked-production-variant"), "AllTraffic");
    let mut request = endpoint("summarizer/invocations", &body);
    for (name, value) in [
        ("x-amzn-sagemaker-custom-attributes", "trace=abc"),
        ("x-amzn-sagemaker-target-variant", "v1"),
        ("x-amzn-sagemaker-inference-id", "id-1"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let full = api.call(request).await;
    assert_eq!(full.header("x-amzn-invoked-production-variant"), "v1");
    assert_eq!(full.header("x-amzn-sagemaker-custom-attributes"), "trace=abc");
    let metadata = api.queue.jobs.lock().unwrap()[1].job.metadata.clone();
    assert_eq!(metadata["sagemaker_inference_id"], "id-1");
    assert_eq!(metadata["sagemaker_endpoint"], "summarizer");
    let table = api
        .call(endpoint("summarizer/invocations", &json!({"inputs": ["rain"]})))
        .await;
    assert_eq!(table.body, json!({"predictions": [{"summarization": "RAIN"}]}));
    assert!(
        api.channels()
            .iter()
            .all(|channel| *channel == Channel::Sagemaker)
    );

    for (body, status, kind, original) in [
        (json!({"articles": "rain"}), 424, "ModelError", 400),
        (json!({"articles": [" "]}), 424, "ModelError", 422),
        (json!({"articles": ["fail"]}), 424, "ModelError", 500),
        (json!({"text": "rain"}), 424, "ModelError", 400),
        (
            json!({"articles": ["x".repeat(5_000)]}),
            400,
            "ValidationError",
            0,
        ),
    ] {
        let answer = api.raw(endpoint("summarizer/invocations", &body)).await;
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (status, kind));
        assert_eq!(answer.body["OriginalStatusCode"].as_u64().unwrap_or(0), original);
        assert!(answer.body["Message"].as_str().unwrap().len() > 10);
    }
    *api.queue.refuses.lock().unwrap() = Some(ErrorCode::QueueFull);
    let full = api.raw(endpoint("summarizer/invocations", &body)).await;
    assert_eq!(
        (full.status, full.header("x-amzn-errortype")),
        (503, "ServiceUnavailable")
    );
    assert!(full.headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_call_waits_for_the_same_job() {
    let api = api();
    let call = || {
        let mut request = endpoint("summarizer/invocations", &json!({"articles": ["rain"]}));
        let id = "93bdea0f-c029-46f4-8b30-142fcba4cb15".parse().unwrap();
        request.headers_mut().insert("amz-sdk-invocation-id", id);
        request
    };
    let late = api.raw(call()).await;
    assert_eq!(
        (late.status, late.header("x-amzn-errortype")),
        (504, "ModelError")
    );
    let original: Value = serde_json::from_str(late.body["OriginalMessage"].as_str().unwrap()).unwrap();
    let handle = original["job_ids"][0].as_str().unwrap();
    let job = api.queue.jobs.lock().unwrap()[0].job.clone();
    let id: JobId = job.id.clone();
    assert_eq!(handle, format!("{id}.1"));
    let stored = crate::testing::result(id.as_str(), 1);
    api.queue.clone().store_after(Duration::from_millis(500), stored);
    let again = api.call(call()).await;
    assert_eq!(again.body, json!(["Rain fell."]));
    let jobs = api.queue.jobs.lock().unwrap().len();
    let third = api.call(call()).await;
    assert_eq!(third.body, json!(["Rain fell."]));
    assert_eq!(api.queue.jobs.lock().unwrap().len(), jobs, "it has ended");
    assert!(
        api.queue
            .jobs
            .lock()
            .unwrap()
            .iter()
            .all(|submission| submission.job.id == id)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_the_response_in_parts_and_reports_a_failure() {
    let api = with_worker();
    for (texts, whole, exception) in [
        (json!(["a", "say \"b\""]), "[\"A\",\"SAY \\\"B\\\"\"]", None),
        (json!([]), "[]", None),
        (json!(["a", "fail", "b"]), "[\"A\"", Some("inference_failed")),
    ] {
        let request = endpoint(
            "summarizer/invocations-response-stream",
            &json!({"articles": texts}),
        );
        let response = api.router.clone().oneshot(request).await.unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "application/vnd.amazon.eventstream"
        );
        let mut bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut decoder = MessageFrameDecoder::new();
        let (mut body, mut failure) = (String::new(), None);
        while let DecodedFrame::Complete(frame) = decoder.decode_frame(&mut bytes).unwrap() {
            assert_eq!(failure, None, "nothing follows a failure");
            let payload = String::from_utf8(frame.payload().to_vec()).unwrap();
            if frame.headers()[0].value().as_string().unwrap().as_str() == "exception" {
                let problem: Value = serde_json::from_str(&payload).unwrap();
                failure = problem["ErrorCode"].as_str().map(str::to_owned);
            } else {
                body += &payload;
            }
        }
        assert_eq!((body.as_str(), failure.as_deref()), (whole, exception));
    }
    // An error before the first part is a plain error response.
    let refused = endpoint("x/invocations-response-stream", &json!({"articles": [" "]}));
    assert_eq!(api.raw(refused).await.status, 424);
}

#[tokio::test(start_paused = true)]
async fn a_call_can_be_repeated_after_the_queue_refused_it() {
    let api = api();
    let call = |path: &str| {
        let mut request = endpoint(path, &json!({"articles": ["a", "full"]}));
        let id = "93bdea0f-c029-46f4-8b30-142fcba4cb15".parse().unwrap();
        request.headers_mut().insert("amz-sdk-invocation-id", id);
        request
    };
    *api.queue.refuses_text.lock().unwrap() = Some((ErrorCode::QueueFull, "full".to_owned()));
    for path in ["summarizer/invocations", "summarizer/invocations-response-stream"] {
        let began = Instant::now();
        let refused = api.raw(call(path)).await;
        assert_eq!(
            (refused.status, refused.header("x-amzn-errortype")),
            (503, "ServiceUnavailable"),
            "{path}"
        );
        assert!(began.elapsed().is_zero(), "{path} waited for the accepted job");
    }
    assert_eq!(*api.queue.done.lock().unwrap(), [1, 2], "`a` was cancelled twice");
    *api.queue.refuses_text.lock().unwrap() = None;
    api.queue.has_worker.store(true, Ordering::Relaxed);
    let repeated = api.call(call("summarizer/invocations")).await;
    assert_eq!(repeated.body, json!(["A", "FULL"]));
}
