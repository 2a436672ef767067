"""Runs every comparison against a product of its own. Usage: check.py PROGRAM. See run.sh."""

import os
import sys
import tempfile

import clients
import recount
import scores
import sentences
import tables
from product import Product


def main():
    seed = int(os.environ.get("SEED", "1"))
    sentences.check()
    with tempfile.TemporaryDirectory() as folder:
        product = Product(sys.argv[1], folder)
        try:
            clients.check(product)
            tables.check(product)
            scores.check(product, seed)
            rows, windows = int(os.environ.get("ROWS", "20000")), int(os.environ.get("WINDOWS", "40"))
            recount.check(product, rows, windows, seed)
        finally:
            product.stop()
    print("everything is equal")


if __name__ == "__main__":
    main()
