//! Tests of the whole configuration.

use super::*;

fn with(overrides: &[&str]) -> Result<Config, ConfigError> {
    Config::load(&ConfigArgs {
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        ..ConfigArgs::default()
    })
}

#[test]
fn defaults_are_valid_and_a_dump_of_them_can_be_loaded() {
    let config = with(&[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(Config::from_toml(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn overrides_are_parsed_as_the_type_of_their_key() {
    let config = with(&[
        "worker.max_batch=3",
        "api.listen=127.0.0.1:9",
        "worker.lanes=[high,bulk]",
        "worker.params.do_sample=true",
    ])
    .unwrap();
    assert_eq!(config.worker.max_batch, 3);
    assert_eq!(config.worker.lanes.len(), 2);
    assert_eq!(config.worker.params.do_sample, Some(true));
    assert_eq!(config.api.listen.port(), 9);
}

#[test]
fn strings_that_look_like_numbers_stay_strings() {
    let config = with(&[
        "nats.user=1e5",
        "nats.password=0123",
        "worker.id=TRUE",
        "clickhouse.user=007",
    ])
    .unwrap();
    assert_eq!(config.nats.user.as_deref(), Some("1e5"));
    assert_eq!(config.nats.password.unwrap().expose(), "0123");
    assert_eq!(config.worker.id.as_deref(), Some("TRUE"));
    assert_eq!(config.clickhouse.user, "007");
}

#[test]
fn errors_name_the_invalid_setting() {
    for (item, part) in [
        ("worker.max_bach=3", "max_bach"),
        ("worker.max_batch=many", "max_batch"),
        ("worker.max_batch=0", "worker.max_batch: must be 1 to 1024"),
        ("clickhouse.database=a;b", "clickhouse.database"),
        ("nonsense", "key=value"),
        ("worker.serve_as=a b", "worker.serve_as"),
        ("worker.device=tpu", "worker.device"),
        ("worker.ack_wait_seconds=0", "worker.ack_wait_seconds"),
        ("queue.result_ttl_hours=9999999999999", "queue.result_ttl_hours"),
        ("worker.lanes=high,urgent", "lanes"),
        ("worker.params.num_beams=99", "num_beams"),
        (
            "arize.api_key=k",
            "arize.space_id: must be set: api_key and space_id belong together",
        ),
        ("arize.sampling_rate=1.5", "arize.sampling_rate"),
        ("arize.send=everything", "everything"),
        (
            "phoenix.url=localhost:6006",
            "phoenix.url: must begin with http://",
        ),
        ("phoenix.max_batch=0", "phoenix.max_batch"),
        (
            "telemetry.otlp_endpoint=collector:4317",
            "telemetry.otlp_endpoint",
        ),
        ("telemetry.trace_sampling_rate=2", "telemetry.trace_sampling_rate"),
        ("monitor.texts=some", "texts"),
        ("monitor.ack_wait_seconds=1", "monitor.ack_wait_seconds"),
        ("clickhouse.row_ttl_days=7", "clickhouse.row_ttl_days"),
        (
            "drift.baseline_from=2026-01-01T00:00:00Z",
            "a later drift.baseline_to",
        ),
        ("drift.psi_alert=nan", "drift.psi_alert"),
    ] {
        let error = with(&[item]).unwrap_err().to_string();
        assert!(error.contains(part), "{item}: {error}");
    }
}

#[test]
fn only_an_explicit_configuration_file_must_exist() {
    let args = ConfigArgs {
        config: Some("no/such/file.toml".into()),
        ..ConfigArgs::default()
    };
    assert!(
        Config::load(&args)
            .unwrap_err()
            .to_string()
            .contains("no/such/file.toml")
    );
}

#[test]
fn dumps_redact_secrets() {
    let text = "[nats]\nurl = 'nats://me:hunter2@host:4222'\npassword = 'hunter2'\n[clickhouse]\npassword = 'hunter2'\n[arize]\napi_key = 'hunter2'\nspace_id = 'hunter2'\n[phoenix]\napi_key = 'hunter2'\nurl = 'http://a:hunter2@host'\n[telemetry]\notlp_headers = { key = 'hunter2' }";
    let config = Config::from_toml(text).unwrap();
    assert!(
        !config.to_toml().unwrap().contains("hunter2"),
        "{}",
        config.to_toml().unwrap()
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn rules_across_sections_are_checked() {
    for (items, part) in [
        (
            &["webhooks.deadline_seconds=90000"][..],
            "webhooks.deadline_seconds",
        ),
        (
            &["batches.default_ttl_seconds=90000"],
            "batches.default_ttl_seconds",
        ),
        (&["api.listen=0.0.0.0:8000"], "api.listen"),
        (&["clickhouse.url=http://0.0.0.0:8123"], "clickhouse.url"),
        (&["nats.url=nats://[::]:4222"], "nats.url"),
    ] {
        let error = with(items).unwrap_err().to_string();
        assert!(error.contains(part), "{items:?}: {error}");
    }
}
