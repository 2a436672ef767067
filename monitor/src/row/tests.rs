use precis_runtime::config::TextPolicy;

use super::*;

const SUCCEEDED: &str = include_str!("../../../schemas/wire/v1/result.succeeded.json");
const FAILED: &str = include_str!("../../../schemas/wire/v1/result.failed.json");

fn row(json: &str) -> PredictionRow {
    let result: JobResult = serde_json::from_str(json).unwrap();
    let published_at = "2026-11-23T13:00:00.0755Z".parse().unwrap();
    let stored = Stored {
        sequence: 77,
        at: published_at,
    };
    build(&result, stored, &Scorer::default(), FULL)
}

const FULL: Texts = Texts {
    policy: TextPolicy::Full,
    max_chars: 0,
};

#[test]
fn a_summary_is_timed_and_scored() {
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
fn a_failure_has_its_error_and_no_scores() {
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
fn a_late_reference_makes_a_version_with_the_scores_of_one_that_came_along() {
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
fn a_row_knows_whether_it_holds_the_whole_summary() {
    let result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let now = precis_runtime::clock::now();
    let stored = Stored { sequence: 1, at: now };
    let whole = |policy, max_chars| {
        let row = build(&result, stored, &Scorer::default(), Texts { policy, max_chars });
        row.has_whole_summary()
    };
    assert!(whole(TextPolicy::Full, 0) && whole(TextPolicy::Truncated, 1_000));
    assert!(!whole(TextPolicy::Truncated, 3));
    assert!(!whole(TextPolicy::Hash, 0) && !whole(TextPolicy::None, 0));
    // Kept once, and forgotten since.
    let mut forgotten = row(SUCCEEDED);
    forgotten.summary.clear();
    assert!(!forgotten.has_whole_summary());
}

#[test]
fn what_was_made_elsewhere_has_no_times() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    (result.job_sequence, result.worker, result.started_at) = (0, None, None);
    let logged = row(&serde_json::to_string(&result).unwrap());
    assert_eq!((logged.publish_ms, logged.end_to_end_ms), (0.0, 0.0));
    // A job that was answered in place of a worker has waited for that.
    result.job_sequence = 7;
    let answered = row(&serde_json::to_string(&result).unwrap());
    assert!(answered.end_to_end_ms > 0.0 && answered.publish_ms > 0.0);
}

#[test]
fn no_vector_is_kept_where_nothing_of_a_text_is() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let vector = Vector(vec![0.5, 0.25]);
    result.embeddings = Some(Embeddings {
        document: Some(vector.clone()),
        summary: Some(vector),
    });
    let now = precis_runtime::clock::now();
    let stored = Stored { sequence: 1, at: now };
    for (policy, kept) in [(TextPolicy::Hash, 2), (TextPolicy::None, 0)] {
        let texts = Texts { policy, max_chars: 0 };
        let row = build(&result, stored, &Scorer::default(), texts);
        assert_eq!(
            (row.text_embedding.len(), row.summary_embedding.len()),
            (kept, kept)
        );
    }
}

#[test]
fn a_job_of_a_batch_has_its_place() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    let place = |row: &PredictionRow| (row.batch_id.clone(), row.batch_index);
    assert_eq!(place(&row(SUCCEEDED)), (String::new(), 0));
    result.batch = Some(precis_schemas::batch::BatchRef {
        id: "b7".parse().unwrap(),
        index: 3,
        size: None,
    });
    let row = row(&serde_json::to_string(&result).unwrap());
    assert_eq!(place(&row), ("b7".to_owned(), 3));
}

#[test]
fn without_a_reference_there_is_no_score() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    for reference in [None, Some(" ".to_owned())] {
        result.reference = reference;
        assert_eq!(row(&serde_json::to_string(&result).unwrap()).rouge1, None);
    }
}

#[test]
fn sizes_beyond_the_column_are_cut_and_not_wrapped() {
    let mut result: JobResult = serde_json::from_str(SUCCEEDED).unwrap();
    result.sizes.text_chars = u64::MAX;
    result.attempt = 1 << 20;
    let row = row(&serde_json::to_string(&result).unwrap());
    assert_eq!((row.text_chars, row.attempt), (u32::MAX, u16::MAX));
}

#[test]
fn every_field_is_a_column_of_the_schema_and_every_column_a_field() {
    let name = |line: &str| Some(line.trim_start().strip_prefix('`')?.split('`').next()?.to_owned());
    let create = precis_schemas::migrations::ALL[1].statements().remove(0);
    let mut columns: Vec<String> = create.lines().filter_map(name).collect();
    // Added later: `ADD COLUMN IF NOT EXISTS `batch_id` … AFTER `version``.
    for migration in precis_schemas::migrations::ALL {
        let added = migration
            .sql
            .split("ADD COLUMN IF NOT EXISTS ")
            .skip(1)
            .filter_map(|rest| Some((name(rest)?, name(rest.split_once("AFTER ")?.1)?)));
        for (column, before) in added {
            let place = columns.iter().position(|known| *known == before).unwrap();
            columns.insert(place + 1, column);
        }
    }
    assert_eq!(<PredictionRow as Row>::COLUMN_NAMES, columns);
}
