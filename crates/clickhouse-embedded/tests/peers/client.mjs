// Uses @clickhouse/client. Usage: node client.mjs URL USER PASSWORD.

import { strict as assert } from "node:assert";
import { ClickHouseLogLevel, createClient } from "@clickhouse/client";

const [url, username, password] = process.argv.slice(2);
const slow =
  "SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1, " +
  "function_sleep_max_microseconds_per_block = 1000000000";
// Refusals are expected, so the client need not log them.
const log = { level: ClickHouseLogLevel.OFF };
const connect = (more) => createClient({ url, username, password, log, ...more });
const rows = async (client, query, more) =>
  (await client.query({ query, format: "JSONEachRow", ...more })).json();

const client = connect({ session_id: "peer-node" });
assert.ok((await client.ping()).success);
await client.command({ query: "DROP DATABASE IF EXISTS peer_node" });
await client.command({ query: "CREATE DATABASE peer_node" });
await client.command({ query: "CREATE TABLE peer_node.t (id UInt32, name String) ENGINE = MergeTree ORDER BY id" });
const values = [{ id: 1, name: "it's" }, { id: 2, name: "snow ☃" }];
await client.insert({ table: "peer_node.t", values, format: "JSONEachRow" });
assert.deepEqual(await rows(client, "SELECT * FROM peer_node.t ORDER BY id"), values);
assert.deepEqual(await rows(client, "SELECT {a: String} AS a", { query_params: { a: "it's" } }), [{ a: "it's" }]);
assert.deepEqual(await rows(client, "SELECT format('{}-{}','rain','snow') AS x"), [{ x: "rain-snow" }]);

// The session keeps its state, and settings of one query end with it.
await client.command({ query: "CREATE TEMPORARY TABLE mine (a UInt8)" });
await client.insert({ table: "mine", values: [{ a: 7 }], format: "JSONEachRow" });
assert.deepEqual(await rows(client, "SELECT a FROM mine"), [{ a: 7 }]);
const threads = "SELECT getSetting('max_threads') = 3 AS three";
assert.deepEqual(await rows(client, threads, { clickhouse_settings: { max_threads: 3 } }), [{ three: 1 }]);

let read = 0;
const stream = (await client.query({ query: "SELECT number FROM numbers(200000)", format: "JSONEachRow" })).stream();
for await (const block of stream) read += block.length;
assert.equal(read, 200_000);

// A query is stopped by its id, and the id of a running one is refused.
const other = connect();
const running = client.query({ query: slow, format: "JSONEachRow", query_id: "node-slow" }).then(
  (result) => result.json(),
  (error) => error,
);
const count = "SELECT toUInt8(count()) AS n FROM system.processes WHERE query_id = 'node-slow'";
while ((await rows(other, count))[0].n === 0);
const again = await other.query({ query: "SELECT 1", query_id: "node-slow" }).then(() => null, (error) => error);
assert.equal(again?.code, "216");
await other.command({ query: "KILL QUERY WHERE query_id = 'node-slow'" });
assert.equal((await running).code, "394");
await Promise.all([client.close(), other.close()]);
console.log("@clickhouse/client works");
