"""Uses clickhouse-connect with its defaults, among them sessions. Usage: client.py HOST PORT USER PASSWORD."""

import sys
import threading

import clickhouse_connect

HOST, PORT, USER, PASSWORD = sys.argv[1:5]
SLOW = (
    "SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1, "
    "function_sleep_max_microseconds_per_block = 1000000000"
)


def connect(**more):
    return clickhouse_connect.get_client(host=HOST, port=int(PORT), username=USER, password=PASSWORD, **more)


def equal(found, expected):
    if found != expected:
        raise SystemExit(f"found {found!r}, not {expected!r}")


client = connect()
client.command("DROP DATABASE IF EXISTS peer_python")
client.command("CREATE DATABASE peer_python")
client.command("CREATE TABLE peer_python.t (id UInt32, name String, tags Array(String)) ENGINE = MergeTree ORDER BY id")
rows = [[1, "it's", ["a", "b"]], [2, "snow ☃", []]]
client.insert("peer_python.t", rows, column_names=["id", "name", "tags"])
found = client.query("SELECT id, name, tags FROM peer_python.t ORDER BY id").result_rows
equal([list(row) for row in found], rows)
text = "it's\ta tab"
equal(client.query("SELECT {text:String}", parameters={"text": text}).result_rows, [(text,)])
equal(client.query("SELECT %(text)s", parameters={"text": text}).result_rows, [(text,)])
equal(client.query("SELECT format('{}-{}','rain','snow') AS x").result_rows, [("rain-snow",)])
with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
    equal(sum(len(block) for block in stream), 300_000)
equal(client.raw_query("SELECT 1 AS format", fmt="JSONEachRow"), b'{"format":1}\n')

# The session of the client keeps its state.
client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
client.command("INSERT INTO mine VALUES (7)")
equal(client.query("SELECT a FROM mine").result_rows, [(7,)])
client.command("SET max_block_size = 777")
equal(client.command("SELECT getSetting('max_block_size')"), 777)

# A query is stopped by its id, from another client.
other, problems = connect(), []


def slow():
    try:
        client.query(SLOW, settings={"query_id": "python-slow"})
    except Exception as error:
        problems.append(str(error))


thread = threading.Thread(target=slow)
thread.start()
while not other.command("SELECT count() FROM system.processes WHERE query_id = 'python-slow'"):
    pass
other.command("KILL QUERY WHERE query_id = 'python-slow'")
thread.join(30)
if not (problems and "394" in problems[0]):
    raise SystemExit(f"the query was not stopped: {problems}")
equal(client.query("SELECT a FROM mine").result_rows, [(7,)])
print("clickhouse-connect works")
