//! Generates `docs/reference/configuration.md` and `precis.example.toml` from the doc comments of the sections.

use std::fmt::Write as _;
use std::fs;

use documented::{Documented, DocumentedFields};
use precis_schemas::GenerationParams;
use serde_json::Value;

use super::*;

struct SectionDoc {
    name: &'static str,
    doc: &'static str,
    fields: Vec<(&'static str, &'static str)>,
}

fn section<T: Documented + DocumentedFields>(name: &'static str) -> SectionDoc {
    let fields = T::FIELD_NAMES.iter().copied().zip(T::FIELD_DOCS.iter().copied());
    SectionDoc {
        name,
        doc: T::DOCS,
        fields: fields.collect(),
    }
}

fn sections() -> [SectionDoc; 17] {
    [
        section::<NatsConfig>("nats"),
        section::<QueueConfig>("queue"),
        section::<LimitsConfig>("limits"),
        section::<ApiConfig>("api"),
        section::<AccessConfig>("access"),
        section::<HttpConfig>("http"),
        section::<BatchesConfig>("batches"),
        section::<WebhooksConfig>("webhooks"),
        section::<LocalConfig>("local"),
        section::<WorkerConfig>("worker"),
        section::<MonitorConfig>("monitor"),
        section::<ClickHouseConfig>("clickhouse"),
        section::<DriftConfig>("drift"),
        section::<ArizeConfig>("arize"),
        section::<PhoenixConfig>("phoenix"),
        section::<TelemetryConfig>("telemetry"),
        section::<StandaloneConfig>("standalone"),
    ]
}

/// Returns a sample value for a setting without a default.
fn sample(section: &str, key: &str) -> &'static str {
    match (section, key) {
        ("nats", "user") => r#""precis""#,
        ("nats", "token") => r#""s3cr3t""#,
        ("nats", "credentials_file") => r#""/etc/precis/nats.creds""#,
        ("limits", "max_body_bytes") => "1048576",
        (_, "password") => r#""s3cr3t""#,
        ("webhooks", "secret") | ("access.keys", "webhook_secret") => {
            r#""whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#
        }
        ("webhooks", "ca_file") => r#""/etc/precis/ca.pem""#,
        ("api", "console_libraries") => r#""/usr/share/precis/console""#,
        ("local", "monitor_url") => r#""http://monitor:9020""#,
        ("local", "monitor_key") => r#""precis_…""#,
        ("worker", "admin_listen") => r#""127.0.0.1:9021""#,
        ("worker", "id") => r#""worker-1""#,
        ("drift", "baseline_from") => r#""2026-01-01T00:00:00Z""#,
        ("drift", "baseline_to") => r#""2026-02-01T00:00:00Z""#,
        (_, "api_key" | "space_id") => r#""s3cr3t""#,
        ("arize", "model_version") => r#""v1""#,
        (_, "texts") => "true",
        ("phoenix", "url") => r#""http://127.0.0.1:6006""#,
        ("telemetry", "otlp_endpoint") => r#""http://127.0.0.1:4318""#,
        ("standalone", "nats_server") => r#""/usr/local/bin/nats-server""#,
        ("standalone", "clickhouse") => r#""/usr/local/bin/clickhouse""#,
        ("standalone", "nats_monitor_port") => "8222",
        ("standalone", "nats_listen") => r#""0.0.0.0:4222""#,
        ("access.keys", "name" | "tenant") => r#""newsroom""#,
        ("access.keys", "hash") => {
            r#""sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""#
        }
        ("access.keys", "operator") => "false",
        ("access.keys", "lanes") => r#"["normal", "bulk"]"#,
        ("access.keys", "models") => r#"["default"]"#,
        ("access.keys", "requests_per_minute") => "600",
        ("access.keys", "burst") => "20",
        ("access.keys", "max_queued_jobs") => "10000",
        _ => panic!("{section}.{key} has no default: add a sample value"),
    }
}

fn unit(key: &str) -> &'static str {
    const UNITS: [(&str, &str); 7] = [
        ("_ms", "ms"),
        ("_seconds", "s"),
        ("_minutes", "min"),
        ("_hours", "h"),
        ("_days", "days"),
        ("_bytes", "bytes"),
        ("_chars", "characters"),
    ];
    UNITS
        .into_iter()
        .find(|(suffix, _)| key.ends_with(suffix))
        .map_or("", |(_, unit)| unit)
}

fn variable(section: &str, key: &str) -> String {
    let section = section.replace('.', "__");
    format!("PRECIS__{section}__{key}").to_uppercase()
}

/// Joins the lines of a doc comment.
fn line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn defaults() -> toml::Table {
    toml::Table::try_from(Config::default()).unwrap()
}

fn params() -> Vec<(&'static str, String)> {
    let schema = include_str!("../../../../schemas/json/job.v1.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let properties = &schema["$defs"]["GenerationParams"]["properties"];
    let doc = |name: &str| line(properties[name]["description"].as_str().unwrap());
    GenerationParams::NAMES
        .iter()
        .map(|name| (*name, doc(name)))
        .collect()
}

const MARK: &str = "<!-- Generated from the doc comments in crates/runtime/src/config. -->\n";

fn page(head: &str) -> String {
    let mut page = format!("{head}{MARK}");
    let table = "| setting | default | unit | environment variable | description |\n| --- | --- | --- | --- | --- |\n";
    let defaults = defaults();
    for SectionDoc { name, doc, fields } in sections() {
        write!(page, "\n## `[{name}]`\n\n{}\n\n{table}", line(doc)).unwrap();
        for (key, doc) in fields {
            if matches!((name, key), ("access", "keys") | ("worker", "params")) {
                continue;
            }
            let default = defaults[name]
                .get(key)
                .map_or_else(String::new, |value| format!("`{value}`"));
            let (unit, variable, doc) = (unit(key), variable(name, key), line(doc).replace('|', "\\|"));
            writeln!(page, "| `{key}` | {default} | {unit} | `{variable}` | {doc} |").unwrap();
        }
        if name == "access" {
            let SectionDoc { doc, fields, .. } = section::<ApiKey>("access.keys");
            write!(
                page,
                "\n### `[[access.keys]]`\n\n{}\n\n| setting | description |\n| --- | --- |\n",
                line(doc)
            )
            .unwrap();
            for (key, doc) in fields {
                writeln!(page, "| `{key}` | {} |", line(doc)).unwrap();
            }
        }
        if name == "worker" {
            page += "\n### `[worker.params]`\n\nGeneration parameters for requests that don't set them. \
                Unset ones come from the model.\n\n| setting | environment variable | description |\n| --- | --- | --- |\n";
            for (key, doc) in params() {
                let variable = variable("worker.params", key);
                writeln!(page, "| `{key}` | `{variable}` | {doc} |").unwrap();
            }
        }
    }
    page
}

/// Wraps a doc comment into comment lines of the example file.
fn comment(doc: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in doc.split_whitespace() {
        let last = lines.last_mut().unwrap();
        if last.len() + word.len() >= 100 {
            lines.push(format!("# {word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

fn example() -> String {
    let mut file = comment(
        "Precis configuration: every setting, commented out with its default, or with a sample value if it has none. \
         Copy the lines you need to precis.toml. docs/reference/configuration.md describes the other sources of settings.",
    );
    let defaults = defaults();
    for SectionDoc { name, doc, fields } in sections() {
        write!(file, "\n{}[{name}]\n", comment(doc)).unwrap();
        for (key, doc) in fields {
            if matches!((name, key), ("access", "keys") | ("worker", "params")) {
                continue;
            }
            let unit = Some(unit(key)).filter(|unit| !unit.is_empty());
            let unit = unit.map_or_else(String::new, |unit| format!(" [{unit}]"));
            let default = defaults[name].get(key);
            let value = default.map_or_else(|| sample(name, key).to_owned(), ToString::to_string);
            write!(file, "\n{}#{key} = {value}\n", comment(&format!("{doc}{unit}"))).unwrap();
        }
        if name == "access" {
            let SectionDoc { name, doc, fields } = section::<ApiKey>("access.keys");
            write!(file, "\n{}#[[{name}]]\n", comment(doc)).unwrap();
            for (key, doc) in fields {
                writeln!(file, "{}#{key} = {}", comment(doc), sample(name, key)).unwrap();
            }
        }
        if name == "worker" {
            let names: Vec<&str> = params().into_iter().map(|(name, _)| name).collect();
            let doc = format!(
                "Generation parameters for requests that don't set them: {}.",
                names.join(", ")
            );
            write!(file, "\n{}[worker.params]\n", comment(&doc)).unwrap();
        }
    }
    file
}

/// Compares a generated file with the one in the repository, or writes it if `PRECIS_UPDATE` is set.
fn is_current(path: &str, fresh: &str) {
    if std::env::var_os("PRECIS_UPDATE").is_some() {
        fs::write(path, fresh).unwrap();
    } else {
        let stored = fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == fresh,
            "{path} is out of date: run the test with PRECIS_UPDATE=1"
        );
    }
}

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn the_reference_page_is_current() {
    let path = format!("{TOP}/docs/reference/configuration.md");
    let stored = fs::read_to_string(&path).unwrap();
    let (head, _) = stored.split_once(MARK).unwrap();
    is_current(&path, &page(head));
}

#[test]
fn the_example_file_is_current() {
    is_current(&format!("{TOP}/precis.example.toml"), &example());
}

#[test]
fn all_sections_are_documented() {
    assert_eq!(sections().map(|section| section.name), *Config::FIELD_NAMES);
}

#[test]
fn the_example_file_is_valid_as_it_is_and_with_every_line_uncommented() {
    let file = example();
    assert_eq!(Config::from_toml(&file).unwrap(), Config::default());
    let all: String = file
        .lines()
        .filter(|line| !line.starts_with("# "))
        .flat_map(|line| [line.strip_prefix('#').unwrap_or(line), "\n"])
        .collect();
    let config = Config::from_toml(&all).unwrap();
    assert_eq!(config.access.keys.len(), 1);
    assert!(config.nats.user.is_some() && config.standalone.nats_monitor_port.is_some());
}
