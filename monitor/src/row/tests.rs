use precis_runtime::config::TextPolicy;

use super::*;

const SUCCEEDED: &str = include_str!("../../../schemas/wire/v1/result.succeeded.json");
const FAILED: &str = include_str!("../../../schemas/wire/v1/result.failed.json");

fn row(json: &str) -> PredictionRow {
    let result: JobResult = serde_json::from_str(json).unwrap();
    let published_at = "2026-11-23T13:00:00.0755Z".parse().unwrap();
    let position = StreamPosition {
        sequence: 77,
        published_at,
    };
    build(&result, position, &Scorer::default(), FULL)
}

const FULL: TextFilter = TextFilter {
    policy: TextPolicy::Full,
    max_chars: 0,
};

#[test]
fn a_succeeded_result_has_durations_and_scores() {
    let row = row(SUCCEEDED);
    assert_eq!((row.job_sequence, row.result_sequence), (42, 77));
    assert_eq!(row.finished_at - row.submitted_at, 60);
    assert_eq!(row.started_at, Some(row.submitted_at + 2));
    assert!((row.publish_ms - 15.5).abs() < 1e-9, "{}", row.publish_ms);
    assert!((row.end_to_end_ms - 75.5).abs() < 1e-9, "{}", row.end_to_end_ms);
    // "the harbour stayed open" within "the harbour stayed open in the rain": 4 of 4 and 4 of 7.
    assert!((row.rouge1.unwrap() - 8.0 / 11.0).abs() < 1e-9);
    assert!((row.rouge2.unwrap() - 6.0 / 9.0).abs() < 1e-9);
    assert!((row.rouge_l.unwrap() - 8.0 / 11.0).abs() < 1e-9);
    assert_eq!(
        (row.rouge1_precision, row.rouge1_recall),
        (Some(1.0), Some(4.0 / 7.0))
    );
    assert_eq!(row.rouge_lsum, row.rouge_l);
    assert_eq!(row.rouge1_stemmed, row.rouge1);
    assert!(row.bleu.unwrap() > 0.0 && row.coverage.is_some());
    assert_eq!((row.error_code.as_str(), row.error_message.as_str()), ("", ""));
    assert_eq!((row.served_as.as_str(), row.device.as_str()), ("default", "cpu"));
    assert_eq!(row.params, r#"{"num_beams":4,"first_sentence":true}"#);
}

#[test]
fn a_failed_result_has_an_error_and_no_scores() {
    let mut failed: JobResult = serde_json::from_str(FAILED).unwrap();
    failed.reference = Some("Rain.".into());
    let row = row(&serde_json::to_string(&failed).unwrap());
    assert_eq!(
        (row.outcome.as_str(), row.error_code.as_str()),
        ("failed", "empty_text")
    );
    assert_eq!(
        (row.model.as_str(), row.worker.as_str(), row.summary.as_str()),
        ("", "", "")
    );
    assert_eq!((row.rouge1, row.rouge2, row.rouge_l), (None, None, None));
}

#[test]
fn a_late_reference_scores_like_a_reference_in_the_job() {
    let early = row(SUCCEEDED);
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let reference = result.reference.take().unwrap();
    let without = row(&serde_json::to_string(&result).unwrap());
    assert_eq!((without.rouge1, without.bleu), (None, None));
    let at: Timestamp = "2026-12-01T00:00:00.5Z".parse().unwrap();
    let scores = Scorer::default().scores(&reference, result.summary.as_deref().unwrap());
    let late = without.with_reference(&reference, at, scores, FULL);
    assert_eq!(late.version, 1_796_083_200_500_000);
    let expected = PredictionRow {
        version: late.version,
        reference_at: Some(at.as_millisecond()),
        reference_chars: reference.chars().count() as u32,
        ..early
    };
    assert_eq!(late, expected);
}

#[test]
fn only_an_unaltered_summary_is_whole() {
    let result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let now = precis_runtime::clock::now();
    let position = StreamPosition {
        sequence: 1,
        published_at: now,
    };
    let whole = |policy, max_chars| {
        let row = build(
            &result,
            position,
            &Scorer::default(),
            TextFilter { policy, max_chars },
        );
        row.has_whole_summary()
    };
    assert!(whole(TextPolicy::Full, 0) && whole(TextPolicy::Truncated, 1_000));
    assert!(!whole(TextPolicy::Truncated, 3));
    assert!(!whole(TextPolicy::Hash, 0) && !whole(TextPolicy::None, 0));
    // The summary has expired.
    let mut forgotten = row(SUCCEEDED);
    forgotten.summary.clear();
    assert!(!forgotten.has_whole_summary());
}

#[test]
fn logged_predictions_have_no_durations() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    (result.job_sequence, result.worker, result.started_at) = (0, None, None);
    let logged = row(&serde_json::to_string(&result).unwrap());
    assert_eq!((logged.publish_ms, logged.end_to_end_ms), (0.0, 0.0));
    // A job that was terminated without a worker did wait.
    result.job_sequence = 7;
    let terminated = row(&serde_json::to_string(&result).unwrap());
    assert!(terminated.end_to_end_ms > 0.0 && terminated.publish_ms > 0.0);
}

#[test]
fn embeddings_are_dropped_under_the_policy_none() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let vector = EmbeddingVector(vec![0.5, 0.25]);
    result.embeddings = Some(Embeddings {
        document: Some(vector.clone()),
        summary: Some(vector),
    });
    let now = precis_runtime::clock::now();
    let position = StreamPosition {
        sequence: 1,
        published_at: now,
    };
    for (policy, kept) in [(TextPolicy::Hash, 2), (TextPolicy::None, 0)] {
        let texts = TextFilter { policy, max_chars: 0 };
        let row = build(&result, position, &Scorer::default(), texts);
        assert_eq!(
            (row.text_embedding.len(), row.summary_embedding.len()),
            (kept, kept)
        );
    }
}

#[test]
fn a_batch_row_has_its_batch_and_index() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let batch = |row: &PredictionRow| (row.batch_id.clone(), row.batch_index);
    assert_eq!(batch(&row(SUCCEEDED)), (String::new(), 0));
    result.batch = Some(precis_schemas::batch::BatchRef {
        id: "b7".parse().unwrap(),
        index: 3,
        size: None,
    });
    let row = row(&serde_json::to_string(&result).unwrap());
    assert_eq!(batch(&row), ("b7".to_owned(), 3));
}

#[test]
fn results_without_a_reference_have_no_scores() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    for reference in [None, Some(" ".to_owned())] {
        result.reference = reference;
        assert_eq!(row(&serde_json::to_string(&result).unwrap()).rouge1, None);
    }
}

#[test]
fn sizes_beyond_the_column_saturate() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    result.sizes.text_chars = u64::MAX;
    result.attempt = 1 << 20;
    let row = row(&serde_json::to_string(&result).unwrap());
    assert_eq!((row.text_chars, row.attempt), (u32::MAX, u16::MAX));
}

#[test]
fn fields_match_the_columns_of_the_schema() {
    let name = |line: &str| Some(line.trim_start().strip_prefix('`')?.split('`').next()?.to_owned());
    let create = precis_schemas::migrations::ALL[1].statements().remove(0);
    let mut columns: Vec<String> = create.lines().filter_map(name).collect();
    // Later migrations add columns: `ADD COLUMN IF NOT EXISTS `batch_id` … AFTER `version``.
    for migration in precis_schemas::migrations::ALL {
        let added = migration
            .sql
            .split("ADD COLUMN IF NOT EXISTS ")
            .skip(1)
            .filter_map(|rest| Some((name(rest)?, name(rest.split_once("AFTER ")?.1)?)));
        for (column, before) in added {
            let position = columns.iter().position(|known| *known == before).unwrap();
            columns.insert(position + 1, column);
        }
    }
    assert_eq!(<PredictionRow as Row>::COLUMN_NAMES, columns);
}
