//! Schemas of parameters and bodies that several areas share.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Returns a schema, and registers the types it refers to.
pub(crate) type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

/// Returns the schema of a type.
pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A string.
pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

/// Any JSON object.
pub(crate) fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

/// No schema: the body does not match its media type, and clients must not parse it.
pub(crate) fn none(_: &mut SchemaGenerator) -> Schema {
    Schema::from(true)
}

/// A name in a path.
pub(crate) fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$"})
}

/// The id of a batch.
pub(crate) fn batch_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
}

/// The handle of a job.
pub(crate) fn handle(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}(\\.[1-9][0-9]{0,15})?$"})
}

/// The header `Idempotency-Key`, as `jobs::idempotency` reads it.
pub(crate) fn idempotency_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7E]+$"})
}
