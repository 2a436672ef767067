"""Step 1. Clone the source repositories and extract the needed text files to WORK/raw/<source>/.

usage: fetch.py WORK [--git-dir SOURCE=PATH ...]

`--git-dir` reads a source from a git directory that is already on this machine instead of cloning it.
"""
import argparse
import os
import subprocess

from sources import SOURCES

KEEP = (".txt", ".md", ".html")


def run(*cmd, **kw):
    return subprocess.run(cmd, check=True, capture_output=True, **kw).stdout


def extract(git_dir, commit, paths, out):
    """Write every blob under `paths` with a wanted extension, using a single `git cat-file --batch`."""
    rows = run("git", "--git-dir", git_dir, "ls-tree", "-r", "-z", commit, "--", *paths).decode("utf8", "replace")
    rows = [r.split("\t", 1) for r in rows.split("\0") if r]
    rows = [(m.split()[2], p) for m, p in rows if p.endswith(KEEP)]
    cat = subprocess.Popen(["git", "--git-dir", git_dir, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    n = 0
    for sha, path in rows:
        cat.stdin.write(sha.encode() + b"\n")
        cat.stdin.flush()
        head = cat.stdout.readline().split()
        if len(head) < 3:  # not in this clone
            continue
        data = cat.stdout.read(int(head[2]))
        cat.stdout.read(1)
        dest = os.path.join(out, path)
        os.makedirs(os.path.dirname(dest), exist_ok=True)
        with open(dest, "wb") as f:
            f.write(data)
        n += 1
    cat.stdin.close()
    return n


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("work")
    ap.add_argument("--git-dir", action="append", default=[])
    a = ap.parse_args()
    local = dict(x.split("=", 1) for x in a.git_dir)
    for name, s in SOURCES.items():
        gd = local.get(name)
        if not gd:
            gd = os.path.join(a.work, "git", name)
            if not os.path.exists(gd):
                run("git", "clone", "--quiet", "--bare", f"https://github.com/{s['repo']}", gd)
        print(name, extract(gd, s["commit"], s["paths"], os.path.join(a.work, "raw", name)), "files", flush=True)


if __name__ == "__main__":
    main()
