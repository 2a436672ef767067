"""Runs ClickHouse's clients for Python and Node.js against the product's ClickHouse."""

import shutil
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

from product import REPOSITORY

CLIENTS = REPOSITORY / "crates/clickhouse-embedded/tests/peers"
USER, PASSWORD = "default", ""


def check(product):
    address = urlsplit(product.clickhouse)
    arguments = [address.hostname, str(address.port), USER, PASSWORD]
    subprocess.run([sys.executable, CLIENTS / "client.py", *arguments], check=True)
    if not shutil.which("npm"):
        print("@clickhouse/client: skipped, because npm is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        for file in ["package.json", "client.mjs"]:
            shutil.copy(CLIENTS / file, folder)
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(install, cwd=folder, check=True)
        subprocess.run(["node", "client.mjs", product.clickhouse, USER, PASSWORD], cwd=folder, check=True)
