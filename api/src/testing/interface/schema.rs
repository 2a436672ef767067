//! Values at the bounds of the JSON Schemas are accepted, and values beyond them are refused.

use precis_schemas::Job;
use precis_schemas::job::JobLimits;
use precis_schemas::rest::{SubmitScores, SubmitSummary};

use super::*;

/// Fields that take more than a valid value: a served model, a receiver that is configured, or a fitting other field.
const NEED_MORE: [&str; 5] = ["model", "callback_url", "texts", "references", "summary"];

/// JSON texts that a schema allows, and others that it forbids.
#[derive(Default)]
struct Samples {
    valid: Vec<String>,
    invalid: Vec<String>,
}

/// Returns samples of `schema`, a part of the document `root`.
fn samples(schema: &Value, root: &Value) -> Samples {
    if let Some(reference) = schema["$ref"].as_str() {
        let path = reference.strip_prefix('#').unwrap();
        return samples(root.pointer(path).unwrap(), root);
    }
    if schema["properties"].is_object() {
        return objects(schema, root);
    }
    let mut all = Samples::default();
    for option in ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|name| schema[name].as_array())
        .flatten()
    {
        all.valid.extend(samples(option, root).valid);
    }
    let constants = schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(schema.get("const"));
    all.valid.extend(constants.map(Value::to_string));
    if !all.valid.is_empty() {
        all.invalid.push(r#""none of them""#.to_owned());
        return all;
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    for kind in kinds {
        let (valid, invalid) = match kind.as_str().unwrap() {
            "null" => (vec!["null".to_owned()], vec![]),
            "boolean" => (vec!["true".to_owned(), "false".to_owned()], vec!["1".to_owned()]),
            "integer" => integers(schema),
            "number" => numbers(schema),
            "string" if schema["format"] == "date-time" => (
                vec![
                    r#""9999-12-31T23:59:59Z""#.to_owned(),
                    r#""2999-01-01T00:00:00+01:00""#.to_owned(),
                ],
                vec![r#""soon""#.to_owned(), "7".to_owned()],
            ),
            "string" => (vec![r#""a1""#.to_owned()], vec!["7".to_owned(), "[]".to_owned()]),
            "object" => (
                vec!["{}".to_owned(), r#"{"k":"v"}"#.to_owned()],
                vec!["[]".to_owned(), r#"{"k":"v","k":"w"}"#.to_owned()],
            ),
            "array" => {
                let items = samples(&schema["items"], root);
                let list = |item: String| format!("[{item}]");
                (
                    items.valid.into_iter().map(list).collect(),
                    items
                        .invalid
                        .into_iter()
                        .map(list)
                        .chain(["{}".to_owned()])
                        .collect(),
                )
            }
            other => panic!("no samples of {other}"),
        };
        all.valid.extend(valid);
        all.invalid.extend(invalid);
    }
    all
}

fn integers(schema: &Value) -> (Vec<String>, Vec<String>) {
    let bound = |name: &str| schema[name].to_string().parse::<i128>();
    let minimum = bound("minimum").unwrap_or_else(|_| panic!("an integer has a minimum: {schema}"));
    let maximum = bound("maximum").unwrap_or_else(|_| panic!("an integer has a maximum: {schema}"));
    let mut valid = vec![minimum.to_string(), maximum.to_string()];
    // A float holds these exactly.
    for number in [minimum, maximum.min(1 << 53)] {
        valid.extend([
            format!("{number}.0"),
            format!("{number}e0"),
            format!("{number}.0E0"),
        ]);
    }
    let invalid = vec![
        (maximum + 1).to_string(),
        (minimum - 1).to_string(),
        format!("{minimum}.5"),
        format!("\"{minimum}\""),
    ];
    (valid, invalid)
}

fn numbers(schema: &Value) -> (Vec<String>, Vec<String>) {
    let maximum = schema["maximum"].as_f64().unwrap();
    let (mut valid, mut invalid) = (vec![maximum], vec![maximum + 1e-6]);
    match (schema["minimum"].as_f64(), schema["exclusiveMinimum"].as_f64()) {
        (Some(minimum), _) => {
            valid.push(minimum);
            invalid.push(minimum - 1e-6);
        }
        (None, Some(minimum)) => {
            valid.push(minimum + 1e-6);
            invalid.push(minimum);
        }
        (None, None) => panic!("a number has a minimum: {schema}"),
    }
    let text = |number: &f64| number.to_string();
    let invalid = invalid
        .iter()
        .map(text)
        .chain(["1e400".to_owned(), "\"1\"".to_owned()]);
    (valid.iter().map(text).collect(), invalid.collect())
}

/// Objects with the required fields and one other field.
fn objects(schema: &Value, root: &Value) -> Samples {
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().into_iter().flatten();
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let always = names(&schema["required"]);
    let alternatives: Vec<Vec<String>> = schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| names(&one["required"]))
        .collect();
    let fields: Vec<(&String, Samples)> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, field)| (name, samples(field, root)))
        .collect();
    let mut all = Samples::default();
    for (name, values) in &fields {
        let of_name = alternatives.iter().find(|alternative| alternative.contains(name));
        let chosen = of_name.or(alternatives.first()).into_iter().flatten();
        let required = always.iter().chain(chosen).filter(|other| other != name);
        let others: String = required
            .map(|other| {
                let (_, values) = fields.iter().find(|(name, _)| *name == other).unwrap();
                format!("\"{other}\":{},", values.valid[0])
            })
            .collect();
        let object = |value: &String| format!("{{{others}\"{name}\":{value}}}");
        if !NEED_MORE.contains(&name.as_str()) {
            all.valid.extend(values.valid.iter().map(object));
        }
        all.invalid.extend(values.invalid.iter().map(object));
    }
    all.invalid.push(r#"{"no such field":1}"#.to_owned());
    all
}

async fn compare(path: &str, schema: schemars::Schema) {
    let api = api();
    let root = schema.to_value();
    let samples = samples(&root, &root);
    assert!(samples.valid.len() > 60 && samples.invalid.len() > 60);
    let send = |text: &String| {
        let mut request = post(path, text.clone());
        let wait = header::HeaderValue::from_static("respond-async");
        request.headers_mut().insert("prefer", wait);
        request
    };
    for text in &samples.valid {
        let answer = api.raw(send(text)).await;
        assert_eq!(answer.status, 202, "{text}: {}", answer.body);
    }
    for text in &samples.invalid {
        let answer = api.raw(send(text)).await;
        assert!(
            matches!(answer.status, 400 | 422),
            "{text}: {} {}",
            answer.status,
            answer.body
        );
    }
}

#[tokio::test]
async fn texts_are_accepted_as_their_schema_says() {
    compare("/v1/summaries", schemars::schema_for!(SubmitSummary)).await;
}

#[tokio::test]
async fn pairs_are_accepted_as_their_schema_says() {
    compare("/v1/scores", schemars::schema_for!(SubmitScores)).await;
}

#[test]
fn jobs_are_accepted_as_their_schema_says() {
    let root = schemars::schema_for!(Job).to_value();
    let samples = samples(&root, &root);
    let is_valid = |text: &String| {
        let job = Job::from_json(text.as_bytes());
        job.and_then(|job| job.validate(precis_schemas::Task::Summarize, &JobLimits::default()))
    };
    for text in &samples.valid {
        assert_eq!(is_valid(text), Ok(()), "{text}");
    }
    for text in &samples.invalid {
        assert!(is_valid(text).is_err(), "{text}");
    }
}
