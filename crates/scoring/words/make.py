"""Writes `lower_only.txt`: words that a corpus has in lower case, and hardly ever capitalized inside a sentence.

    python3 make.py CORPUS…        # one paragraph a line

The list in this folder comes from the posts of digital.gov and 18f.gsa.gov, works of the United States government
without copyright (repositories GSA/digitalgov.gov and 18F/18f.gsa.gov): 80 % of their paragraphs, 1.4 million words. The
other 20 % are the texts of `../tests/data/ends.jsonl`.
"""

import collections
import pathlib
import re
import sys

LEAST = 15  # occurrences in lower case
MOST_CAPITALIZED = 0.01  # share of capitalized ones inside sentences

lower, begin, inside = collections.Counter(), collections.Counter(), collections.Counter()
for path in sys.argv[1:]:
    for paragraph in pathlib.Path(path).read_text().splitlines():
        # Rough sentences suffice: a wrong one adds a capitalized word inside a sentence, or hides one.
        for sentence in re.split(r"(?<=[.?!])[\"”’)]*\s+(?=[\"“‘(]*[A-Z0-9])", paragraph):
            tokens = sentence.split()
            if sum(token[:1].isupper() for token in tokens) > len(tokens) / 2:
                continue  # a title
            previous = ""
            for token in tokens:
                found = re.search(r"[A-Za-z][A-Za-z'’]*", token)
                if not found:
                    continue
                word = found.group(0).replace("’", "'").rstrip("'").removesuffix("'s")
                key = word.lower()
                if word[0].islower():
                    lower[key] += 1
                elif not previous:
                    begin[key] += 1
                # After a colon, dash or quotation mark a sentence may begin, and acronyms say nothing.
                elif not re.search(r"[:.?!\"“(–—-]$|^[\"“(]", previous) and not (len(word) > 1 and word.isupper()):
                    inside[key] += 1
                previous = token


def lower_only(word):
    seen = lower[word] + inside[word]
    # A word that mostly begins sentences is the title of a talk, an acronym in an address, or the like.
    return (
        re.fullmatch("[a-z]{2,}", word)
        and lower[word] >= LEAST
        and inside[word] <= MOST_CAPITALIZED * seen
        and (lower[word] >= 150 or begin[word] <= 3 * lower[word])
    )


words = sorted(word for word in lower if lower_only(word))
pathlib.Path(__file__).with_name("lower_only.txt").write_text("\n".join(words) + "\n")
print(len(words), "words")
