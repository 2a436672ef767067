"""Recounts every named query from the rows, in Python, over random windows.

The rows are read from ClickHouse once. No other SQL is involved, so neither rollups nor queries are trusted.
"""

import json
import math
import random
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone

from product import until

DAY = timedelta(days=1)
DAYS = 6
SCORES = ["rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"]
STAGES = ["queue", "batch_wait", "tokenize", "encode", "decode", "publish", "end_to_end"]
CHANNELS = ["api", "local", "mlflow", "lambda", "sagemaker", "direct", "batch", "other"]
OUTCOMES = ["succeeded", "failed", "cancelled", "expired"]
ERRORS = {"failed": ["inference_failed", "too_many_attempts"], "cancelled": ["cancelled"], "expired": ["deadline_exceeded"]}
GROUPS = ["channel", "model", "tenant", "lane"]
DRIFT = ["text_chars", "summary_chars", "compression_ratio", "coverage", "novel_bigrams", "repetition_rate", "rouge1"]
FORMAT = "%Y-%m-%d %H:%M:%S"


def text_of(at):
    return at.strftime(FORMAT) + f".{at.microsecond // 1000:03}"


def time_of(text):
    fraction = "%Y-%m-%d %H:%M:%S.%f" if "." in text else FORMAT
    return datetime.strptime(text, fraction).replace(tzinfo=timezone.utc)


# Rows.


def random_row(rng, index, begin):
    at = begin + timedelta(milliseconds=rng.randrange(DAYS * 86_400_000))
    outcome = rng.choices(OUTCOMES, [90, 5, 2, 3])[0]
    succeeded = outcome == "succeeded"
    row = {
        "job_id": f"recount-{index}",
        "finished_at": text_of(at),
        "submitted_at": text_of(at - timedelta(seconds=1)),
        "tenant": rng.choice(["public", "acme", "tenant-3"]),
        "channel": rng.choice(CHANNELS),
        "task": "summarize",
        "lane": rng.choice(["high", "normal", "bulk"]),
        "outcome": outcome,
        "error_code": "" if succeeded else rng.choice(ERRORS[outcome]),
        "model": rng.choice(["recount-small", "recount-large"]),
        "revision": rng.choice(["r1", "r2"]),
        "attempt": rng.choice([1, 1, 1, 1, 2, 3]),
        "text_chars": rng.randint(1, 9000),
        "text_tokens": rng.randint(1, 512),
        "truncated_tokens": rng.choice([0, 0, 0, 700]),
    }
    for stage in STAGES:
        row[f"{stage}_ms"] = rng.choice([0.0, rng.random(), math.exp(rng.uniform(-3, 11))])
    if succeeded:
        row["summary_chars"] = rng.choice([0, rng.randint(1, 400)])
        row["summary_tokens"] = rng.randint(1, 128)
        row["summary"] = "It rained."
        for name in ["compression_ratio", "coverage", "density", "novel_bigrams", "repetition_rate"]:
            row[name] = rng.random()
        row["is_empty"], row["is_truncated"] = rng.random() < 0.02, rng.random() < 0.1
        if rng.random() < 0.4:
            row["reference_chars"] = rng.randint(1, 400)
            for name in SCORES:
                row[name] = rng.choice([0.0, 1.0, rng.random(), rng.random()]) * (100 if name == "bleu" else 1)
    return row


def store(product, count, rng):
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [random_row(rng, index, today - DAYS * DAY) for index in range(count)]
    for begin in range(0, count, 2000):
        lines = "\n".join(json.dumps(row) for row in rows[begin : begin + 2000])
        product.sql(f"INSERT INTO prediction_versions FORMAT JSONEachRow\n{lines}")
    # Some are stored twice, and some get a late reference.
    again = rows[: count // 20]
    product.sql("INSERT INTO prediction_versions FORMAT JSONEachRow\n" + "\n".join(map(json.dumps, again)))
    late = [row for row in rows if "rouge1" in row][: count // 20]
    for row in late:
        row["version"], row["rouge1"], row["reference_chars"] = 7, rng.random(), rng.randint(1, 400)
    product.sql("INSERT INTO prediction_versions FORMAT JSONEachRow\n" + "\n".join(map(json.dumps, late)))


def read(product):
    """Returns the latest version of every row."""
    columns = ["job_id", "version", "finished_at", "tenant", "channel", "lane", "outcome", "error_code", "model", "revision"]
    columns += ["attempt", "text_chars", "text_tokens", "truncated_tokens", "summary_chars", "summary_tokens"]
    columns += ["reference_chars", "coverage", "density", "novel_bigrams", "repetition_rate", "is_empty", "is_truncated"]
    columns += ["compression_ratio"] + [f"{stage}_ms" for stage in STAGES] + SCORES
    latest = {}
    for row in product.sql(f"SELECT {', '.join(columns)} FROM prediction_versions"):
        key = (row["finished_at"], row["job_id"])
        if key not in latest or latest[key]["version"] < row["version"]:
            latest[key] = row
    for row in latest.values():
        row["at"] = time_of(row["finished_at"])
    return list(latest.values())


# Comparison.


class Window:
    def __init__(self, product, rows, parameters):
        self.product, self.parameters = product, parameters
        begin, end = parameters["from"], parameters["to"]
        self.bounds = {"from": begin.isoformat(), "to": end.isoformat()}
        self.rows = [row for row in rows if begin <= row["at"] < end]
        self.values = 0

    def ask(self, query, **more):
        filters = {name: value for name, value in self.parameters.items() if name in ("model", "channel", "tenant")}
        return self.product.analytics(query, **self.bounds, **filters, **more)

    def seen(self, outcome=None):
        names = [name for name in ("model", "channel", "tenant") if name in self.parameters]
        rows = [row for row in self.rows if all(row[name] == self.parameters[name] for name in names)]
        return [row for row in rows if outcome is None or row["outcome"] == outcome]

    def equal(self, what, found, wanted):
        self.values += 1
        if isinstance(wanted, float) and found is not None:
            same = math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-9)
        else:
            same = found == wanted
        if not same:
            raise SystemExit(f"{what}: Precis has {found!r}, the recount {wanted!r} ({self.bounds} {self.parameters})")

    def groups_equal(self, what, found, wanted, columns):
        """Compares rows by key. `wanted` maps a key to the values of further columns."""
        by_key = {tuple(row[column] for column in columns): row for row in found}
        self.equal(f"{what}: number of rows", len(found), len(by_key))
        self.equal(f"{what}: groups", sorted(by_key), sorted(wanted))
        for key, values in wanted.items():
            for column, value in values.items():
                if isinstance(value, Quantile):
                    self.values += 1
                    value.check(f"{what} {key} {column}", by_key[key][column])
                else:
                    self.equal(f"{what} {key} {column}", by_key[key][column], value)


class Quantile:
    """The value of a rank, within one percent, or of a neighbour of it."""

    def __init__(self, values, level):
        self.values, self.level = sorted(values), level

    def check(self, what, found):
        rank = (len(self.values) - 1) * self.level
        low = self.values[max(0, math.floor(rank) - 1)] * 0.989 - 0.0011
        high = self.values[min(len(self.values) - 1, math.ceil(rank) + 1)] * 1.011 + 0.0011
        if not low <= found <= high:
            raise SystemExit(f"{what}: Precis has {found}, the recount {low} to {high}")


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else None


def grouped(rows, key):
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def begin_of(row, bucket):
    at = row["at"].replace(microsecond=0, second=0)
    if bucket != "minute":
        at = at.replace(minute=0)
    if bucket == "day":
        at = at.replace(hour=0)
    return at.strftime(FORMAT)


def column_of(row, group_by):
    return "" if group_by == "none" else row[group_by]


def latency(window, rng):
    group_by, outcome = rng.choice(["none", "outcome", *GROUPS]), rng.choice([None, "succeeded"])
    wanted = {}
    for group, rows in grouped(window.seen(outcome), lambda row: column_of(row, group_by)).items():
        for stage in STAGES:
            values = [row[f"{stage}_ms"] for row in rows]
            percentiles = {f"p{level}_ms": Quantile(values, level / 100) for level in (50, 90, 95, 99)}
            wanted[stage, group] = {"count": len(rows), **percentiles}
    found = window.ask("latency", group_by=group_by, outcome=outcome or "all")
    window.groups_equal("latency", found, wanted, ["stage", "group"])


def latency_over_time(window, rng):
    bucket, group_by = rng.choice(["minute", "hour", "day"]), rng.choice(["none", *GROUPS])
    wanted = {}
    groups = grouped(window.seen(), lambda row: (begin_of(row, bucket), column_of(row, group_by)))
    for key, rows in groups.items():
        values = [row["end_to_end_ms"] for row in rows]
        wanted[key] = {"count": len(rows), "mean_ms": mean(values), "max_ms": max(values), "p95_ms": Quantile(values, 0.95)}
    found = window.ask("latency_over_time", bucket=bucket, group_by=group_by)
    window.groups_equal("latency_over_time", found, wanted, ["time", "group"])


def throughput(window, rng):
    bucket, group_by = rng.choice(["minute", "hour", "day"]), rng.choice(["none", "model", "tenant", "lane"])
    key = lambda row: (begin_of(row, bucket), row["outcome"], row["channel"], column_of(row, group_by))
    wanted = {
        key: {"count": len(rows), "redelivered": sum(row["attempt"] > 1 for row in rows)}
        for key, rows in grouped(window.seen(), key).items()
    }
    found = window.ask("throughput", bucket=bucket, group_by=group_by)
    window.groups_equal("throughput", found, wanted, ["time", "outcome", "channel", "group"])


def errors(window, _):
    rows = window.seen()
    wanted = {
        key: {"count": len(some), "share": len(some) / len(rows), "last_seen": text_of(max(row["at"] for row in some))}
        for key, some in grouped(rows, lambda row: (row["error_code"], row["model"])).items()
        if key[0]
    }
    window.groups_equal("errors", window.ask("errors"), wanted, ["error_code", "model"])


def channels(window, _):
    rows = window.seen()
    wanted = {}
    for channel, some in grouped(rows, lambda row: row["channel"]).items():
        wanted[(channel,)] = {
            "count": len(some),
            "share": len(some) / len(rows),
            "summarized": sum(row["outcome"] == "succeeded" for row in some),
            "referenced": sum(row["reference_chars"] > 0 for row in some),
            **{outcome: sum(row["outcome"] == outcome for row in some) for outcome in OUTCOMES[1:]},
            "scored": sum(row["rouge1"] is not None for row in some),
            **{name: mean(row[name] for row in some if row[name] is not None) for name in ["rouge1", "rouge2", "rougeL", "bleu"]},
        }
    window.groups_equal("channels", window.ask("channels"), wanted, ["channel"])


def lengths(window, rng):
    bucket = rng.choice(["minute", "hour", "day"])
    wanted = {}
    for key, rows in grouped(window.seen(), lambda row: (begin_of(row, bucket),)).items():
        summarized = [row for row in rows if row["outcome"] == "succeeded"]
        referenced = [row for row in rows if row["reference_chars"] > 0]
        wanted[key] = {
            "count": len(rows),
            **{name: mean(row[name] for row in rows) for name in ["text_chars", "text_tokens", "truncated_tokens"]},
            **{name: mean(row[name] for row in summarized) for name in ["summary_chars", "summary_tokens"]},
            "reference_chars": mean(row["reference_chars"] for row in referenced),
            "compression": mean(row["text_chars"] / row["summary_chars"] for row in rows if row["summary_chars"] > 0),
            "reference_compression": mean(row["text_chars"] / row["reference_chars"] for row in referenced),
        }
    window.groups_equal("lengths", window.ask("lengths", bucket=bucket), wanted, ["time"])


def signals(window, rng):
    bucket = rng.choice(["minute", "hour", "day"])
    names = ["coverage", "density", "novel_bigrams", "repetition_rate"]
    rows = [row for row in window.seen() if row["coverage"] is not None]
    wanted = {
        key: {
            "count": len(some),
            **{name: mean(row[name] for row in some) for name in names},
            "empty": sum(bool(row["is_empty"]) for row in some),
            "truncated": sum(bool(row["is_truncated"]) for row in some),
        }
        for key, some in grouped(rows, lambda row: (begin_of(row, bucket),)).items()
    }
    window.groups_equal("signals", window.ask("signals", bucket=bucket), wanted, ["time"])


def scores(window, rng):
    bucket, score, group_by = rng.choice(["minute", "hour", "day"]), rng.choice(SCORES), rng.choice(["none", *GROUPS])
    rows = [row for row in window.seen() if row[score] is not None]
    wanted = {}
    for key, some in grouped(rows, lambda row: (begin_of(row, bucket), column_of(row, group_by))).items():
        values = [row[score] for row in some]
        wanted[key] = {"count": len(some), "mean": mean(values), "min": min(values), "max": max(values)}
        if len(values) == 1:
            wanted[key]["deviation"] = None
    found = window.ask("scores", bucket=bucket, score=score, group_by=group_by)
    window.groups_equal("scores", found, wanted, ["time", "group"])
    for row in found:
        values = [one[score] for one in rows if (begin_of(one, bucket), column_of(one, group_by)) == (row["time"], row["group"])]
        if len(values) > 1:
            middle = mean(values)
            deviation = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))
            window.values += 1
            if not math.isclose(row["deviation"], deviation, rel_tol=1e-5, abs_tol=1e-5):
                raise SystemExit(f"deviation of {score}: Precis has {row['deviation']}, the recount {deviation}")


def score_distribution(window, rng):
    score = rng.choice(SCORES)
    top = 100 if score == "bleu" else 1
    bins = [0] * 20
    for row in window.seen():
        if row[score] is not None:
            bins[min(19, math.floor(row[score] / top * 20 if top == 1 else row[score] / 5))] += 1
    found = window.ask("score_distribution", score=score)
    window.equal("score_distribution", [row["count"] for row in found] or [0] * 20, bins)


def models(window, _):
    wanted = {}
    for key, rows in grouped(window.seen(), lambda row: (row["model"], row["revision"])).items():
        summarized = [row for row in rows if row["outcome"] == "succeeded"]
        times, signalled = [row["end_to_end_ms"] for row in rows], [row for row in rows if row["coverage"] is not None]
        wanted[key] = {
            "count": len(rows),
            "success": len(summarized) / len(rows),
            "p50_ms": Quantile(times, 0.5),
            "p95_ms": Quantile(times, 0.95),
            "decode_p50_ms": Quantile([row["decode_ms"] for row in rows], 0.5),
            "summary_chars": mean(row["summary_chars"] for row in summarized),
            "compression": mean(row["text_chars"] / row["summary_chars"] for row in rows if row["summary_chars"] > 0),
            **{name: mean(row[name] for row in signalled) for name in ["coverage", "novel_bigrams"]},
            "scored": sum(row["rouge1"] is not None for row in rows),
            **{name: mean(row[name] for row in rows if row[name] is not None) for name in ["rouge1", "rouge2", "rougeL", "bleu"]},
        }
    window.groups_equal("models", window.ask("models"), wanted, ["model", "revision"])


def lists(window, rng):
    limit, score = rng.choice([1, 10, 100]), rng.choice(SCORES)
    latest_first = lambda row: (-row["at"].timestamp(), row["job_id"])
    scored = [row for row in window.seen() if row[score] is not None]
    for query, rows, parameters in [
        ("recent", sorted(window.seen(), key=latest_first), {}),
        ("slowest", sorted(window.seen(), key=lambda row: (-row["end_to_end_ms"], *latest_first(row))), {}),
        ("worst_scores", sorted(scored, key=lambda row: (row[score], *latest_first(row))), {"score": score}),
    ]:
        found = window.ask(query, limit=limit, **parameters)
        window.equal(query, [row["job_id"] for row in found], [row["job_id"] for row in rows[:limit]])


# Drift.


def shares(edges, values):
    counts = [0] * 10
    for value in values:
        counts[sum(value > edge for edge in edges)] += 1
    return [count / len(values) for count in counts]


def drift(product, rows):
    """Recounts each day from the rows: the baseline is the first two days of a model."""
    product.start_drift()
    first = min(row["at"] for row in rows).replace(hour=0, minute=0, second=0, microsecond=0)
    bounds = {"from": first.isoformat(), "to": datetime.now(timezone.utc).isoformat()}
    names = sorted({row["model"] for row in rows if row["model"].startswith("recount-")})
    expected = {(model, metric) for model in names for metric in DRIFT}

    def computed():
        found = [row for row in product.analytics("drift", **bounds) if (row["model"], row["metric"]) in expected]
        return found if {(row["model"], row["metric"]) for row in found} == expected else None

    values = 0
    for found in until("drift is computed", computed):
        mine = [row for row in rows if row["model"] == found["model"] and row["outcome"] == "succeeded"]
        mine = [row for row in mine if row[found["metric"]] is not None]
        start = min(row["at"] for row in rows if row["model"] == found["model"] and row["outcome"] == "succeeded")
        end = start.replace(hour=0, minute=0, second=0, microsecond=0) + 2 * DAY
        base = [row[found["metric"]] for row in mine if row["at"] < end]
        day = [row[found["metric"]] for row in mine if row["at"].strftime("%Y-%m-%d") == found["day"]]
        edges = [sorted(base)[int(bin / 10 * len(base))] for bin in range(1, 10)]
        then, now = (
            [max(share, 1e-4) for share in shares(edges, some)] for some in (base, day)
        )
        psi = math.fsum((b - a) * math.log(b / a) for a, b in zip(then, now, strict=True))
        deviation = math.sqrt(math.fsum((value - mean(base)) ** 2 for value in base) / (len(base) - 1))
        wanted = {"rows": len(day), "mean": mean(day), "psi": psi, "mean_shift": (mean(day) - mean(base)) / deviation}
        for name, value in wanted.items():
            values += 1
            if not math.isclose(found[name], value, rel_tol=1e-5, abs_tol=1e-6):
                raise SystemExit(f"drift {found}: {name} is {value} in the recount")
    return values


QUERIES = [latency, latency_over_time, throughput, errors, channels, lengths, signals, scores, score_distribution, models, lists]


def random_window(rng, rows):
    newest = max(row["at"] for row in rows)
    length = timedelta(milliseconds=int(math.exp(rng.uniform(0, math.log(DAYS * 86_400_000)))) + 1)
    end = rng.choice(rows)["at"] if rng.random() < 0.3 else newest - timedelta(milliseconds=rng.randrange(DAYS * 86_400_000))
    parameters = {"from": end - length, "to": end}
    for name, values in [("model", ["recount-small"]), ("channel", CHANNELS), ("tenant", ["acme"])]:
        if rng.random() < 0.2:
            parameters[name] = rng.choice(values)
    return parameters


def check(product, count, windows, seed):
    rng = random.Random(seed)
    store(product, count, rng)

    def counted():
        # Jobs of other checks may still become rows.
        rows = read(product)
        begin, end = min(row["at"] for row in rows) - DAY, datetime.now(timezone.utc)
        found = product.analytics("models", **{"from": begin.isoformat(), "to": end.isoformat()})
        scored = sum(row["rouge1"] is not None for row in rows)
        same = sum(row["count"] for row in found) == len(rows) and sum(row["scored"] for row in found) == scored
        return rows if same else None

    rows = until("the rollups contain all rows", counted)
    values, begin = 0, time.monotonic()
    for _ in range(windows):
        window = Window(product, rows, random_window(rng, rows))
        for query in QUERIES:
            query(window, rng)
        values += window.values
    print(f"analytics: {values} values over {windows} windows of {len(rows)} rows, {time.monotonic() - begin:.0f} s")
    print(f"drift: {drift(product, rows)} values")
