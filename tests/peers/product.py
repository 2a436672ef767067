"""Starts a product on free ports with a temporary folder, and talks to it over HTTP."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, attempt, patience=300):
    give_up = time.monotonic() + patience
    while True:
        try:
            value, problem = attempt(), ""
        except (OSError, urllib.error.URLError) as error:
            value, problem = None, error
        if value:
            return value
        if time.monotonic() > give_up:
            raise SystemExit(f"waited {patience} s until {what} {problem}")
        time.sleep(0.5)


class Product:
    def __init__(self, program, folder):
        self.program, self.folder, self.processes = str(Path(program).resolve()), Path(folder), []
        ports = {name: free_port() for name in ["api", "monitor", "clickhouse", "nats", "worker"]}
        self.settings = {
            "api.listen": f"127.0.0.1:{ports['api']}",
            "monitor.listen": f"127.0.0.1:{ports['monitor']}",
            "clickhouse.url": f"http://127.0.0.1:{ports['clickhouse']}",
            "nats.url": f"nats://127.0.0.1:{ports['nats']}",
            "worker.admin_listen": f"127.0.0.1:{ports['worker']}",
            "standalone.data_dir": str(self.folder / "data"),
            # A monitor of its own compares the days, once all rows are there.
            "drift.every_minutes": "0",
            "drift.baseline_days": "2",
            "drift.min_rows": "100",
        }
        self.api = f"http://{self.settings['api.listen']}"
        self.clickhouse = self.settings["clickhouse.url"]
        self.start("up", {})
        until("the gateway is ready", lambda: self.call("/readyz", raw=True) is not None)
        schema = "SELECT count() AS n FROM system.tables WHERE database = 'precis' AND name = 'dirty_minutes'"
        until("the schema exists", lambda: self.sql(schema, database="system")[0]["n"] == 1)

    def start(self, role, settings):
        command = [self.program, role]
        for key, value in {**self.settings, **settings}.items():
            command += ["--set", f"{key}={value}"]
        log = open(self.folder / f"{role}.log", "wb")
        self.processes.append(subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT))

    def start_drift(self):
        self.start("monitor", {"monitor.listen": f"127.0.0.1:{free_port()}", "drift.every_minutes": "60"})

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            process.wait(60)

    def call(self, path, body=None, raw=False):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read()
        return text if raw else json.loads(text)

    def analytics(self, query, **parameters):
        return self.call(f"/v1/analytics/{query}?{urllib.parse.urlencode(parameters)}")["data"]

    def sql(self, statement, database="precis"):
        settings = {
            "database": database,
            "default_format": "JSONEachRow",
            "output_format_json_quote_64bit_integers": 0,
        }
        url = f"{self.clickhouse}/?{urllib.parse.urlencode(settings)}"
        with urllib.request.urlopen(urllib.request.Request(url, statement.encode()), timeout=120) as answer:
            return [json.loads(line) for line in answer.read().decode().splitlines()]
