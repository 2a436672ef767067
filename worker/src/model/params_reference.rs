//! Generates `docs/reference/parameters.md` from the JSON Schema, and compares its ranges with what is accepted.

use std::fmt::Write as _;
use std::fs;

use precis_engine::{Engine, EngineOptions, GenerationParams as EngineParams, ModelSource};
use precis_schemas::GenerationParams;
use serde_json::{Map, Value, json};

use super::params_as_used;

const HEAD: &str = "# Generation parameters

A request may set any of these in `params`, over REST and over NATS. Names and meanings are those of `generate` in
Hugging Face transformers. What a request leaves open comes from `[worker.params]` in the [configuration](configuration.md),
then from the model's `generation_config.json`, then from the column *default*. The column *built-in* shows what applies to
`precis-mini`. A finished job repeats its parameters as used.

<!-- Generated from the JSON Schema by worker/src/model/params_reference.rs. -->

| parameter | type | range | default | built-in | meaning |
| --- | --- | --- | --- | --- | --- |
";

const TAIL: &str = "
`temperature`, `top_k`, `top_p` and `seed` matter only with `do_sample`; `length_penalty` and `early_stopping` only with
`num_beams` above 1. A value outside its range is refused with [`invalid_parameter`](../errors/invalid_parameter.md), and an
unknown name with [`invalid_request`](../errors/invalid_request.md). A model without `generation_config.json` keeps its
settings in `config.json`; its `max_length` of 20, which is transformers' default, is not used.
";

fn properties() -> Map<String, Value> {
    let schema = include_str!("../../../schemas/json/job.v1.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    schema["$defs"]["GenerationParams"]["properties"]
        .as_object()
        .unwrap()
        .clone()
}

/// Returns type and range of a parameter.
fn type_and_range(name: &str, property: &Value) -> (String, String) {
    let choice = |kind: &str, range: &str| (kind.to_owned(), range.to_owned());
    match name {
        "early_stopping" => return choice("boolean or string", "`true`, `false`, `\"never\"`"),
        "long_text" => return choice("string", "`\"truncate\"`, `\"map_reduce\"`"),
        _ => {}
    }
    let kind = property["type"][0].as_str().unwrap();
    // As `f64`, the largest seed would be rounded.
    let bound = |key: &str| match &property[key] {
        value if value.is_u64() => Some(value.to_string()),
        value => value.as_f64().map(|value| value.to_string()),
    };
    let low = match (bound("minimum"), bound("exclusiveMinimum")) {
        (Some(low), _) => low,
        (None, Some(low)) => format!("above {low}"),
        (None, None) => String::new(),
    };
    let range = match (kind, bound("maximum")) {
        ("boolean", _) => "`true`, `false`".to_owned(),
        (_, Some(high)) => format!("{low} to {high}"),
        (_, None) => format!("{low} or more"),
    };
    (kind.to_owned(), range)
}

fn page() -> String {
    let open = GenerationParams::default();
    let used = |defaults: &EngineParams| serde_json::to_value(params_as_used(&open, defaults, None)).unwrap();
    let engine = Engine::load(&ModelSource::Embedded, &EngineOptions::default()).unwrap();
    let (fallback, built_in) = (used(&EngineParams::default()), used(engine.default_params()));
    let properties = properties();
    let mut page = HEAD.to_owned();
    for name in GenerationParams::NAMES {
        let property = &properties[*name];
        let (kind, range) = type_and_range(name, property);
        let shown = |values: &Value| match &values[*name] {
            Value::Null => "drawn for each job".to_owned(),
            value => format!("`{value}`"),
        };
        let description = property["description"].as_str().unwrap().split_whitespace();
        let description: Vec<&str> = description.collect();
        writeln!(
            page,
            "| `{name}` | {kind} | {range} | {} | {} | {} |",
            shown(&fallback),
            shown(&built_in),
            description.join(" ").replace('|', "\\|")
        )
        .unwrap();
    }
    page + TAIL
}

#[test]
fn the_reference_of_parameters_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/parameters.md");
    let fresh = page();
    if std::env::var_os("PRECIS_UPDATE").is_some() {
        fs::write(path, &fresh).unwrap();
    }
    let stored = fs::read_to_string(path).unwrap_or_default();
    assert!(stored == fresh, "{path} is out of date: run with PRECIS_UPDATE=1");
}

#[test]
fn the_documented_ranges_are_those_that_are_accepted() {
    let accepts = |name: &str, value: Value| {
        let params = serde_json::from_value::<GenerationParams>(json!({name: value}));
        params.is_ok_and(|params| params.validate().is_ok())
    };
    for (name, property) in properties() {
        let step = if property["type"][0] == "integer" {
            1.0
        } else {
            1e-6
        };
        let (low, high) = (&property["minimum"], &property["maximum"]);
        if let Some(bound) = low.as_f64() {
            assert!(accepts(&name, low.clone()), "{name}: {low}");
            assert!(!accepts(&name, json!(bound - step)), "{name}: below {low}");
        }
        let above = &property["exclusiveMinimum"];
        if !above.is_null() {
            assert!(!accepts(&name, above.clone()), "{name}: {above}");
        }
        if let Some(bound) = high.as_f64() {
            assert!(accepts(&name, high.clone()), "{name}: {high}");
            assert!(!accepts(&name, json!(bound + step)), "{name}: above {high}");
        }
    }
}
