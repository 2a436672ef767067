"""The public texts the model was trained on: where they are, and why they may be used.

Everything here is a work of the United States federal government (public domain, 17 U.S.C. 105)
or carries a CC0 1.0 dedication. The repositories are only the transport: nothing in them but the
government texts is used. `commit` pins what was read.
"""

SOURCES = {
    "senate": dict(
        repo="lintool/GrimmerSenatePressReleases",
        commit="2c7bab8837f934437a9fdbb8460876fde31f5cae",
        paths=["raw"],
        what="Press releases of U.S. senators' offices, 2004-2007, collected by Justin Grimmer",
        terms="works of the U.S. federal government, public domain (17 U.S.C. 105)",
    ),
    "doj": dict(
        repo="lennymd/news21-pressReleasesDOJ",
        commit="1a05eb9883822edd7f1bbecd2a73c554b2c4f37c",
        paths=["scrape_pressRelease/pressReleases"],
        what="Press releases of the U.S. Department of Justice, Office of Public Affairs, to April 2018",
        terms="works of the U.S. federal government, public domain (17 U.S.C. 105)",
    ),
    "congress": dict(
        repo="Hussain-Altamimi/Congress_Press_Releases",
        commit="955f2a386fef7ee90d97fe33fde0ca5d6f4a7b34",
        paths=[f"output/{n}.txt" for n in ("aoc", "hawley", "lee", "mtg", "pocan", "sanders", "stefanik")],
        what="Press releases of seven offices of the U.S. Congress, to August 2024",
        terms="works of the U.S. federal government, public domain (17 U.S.C. 105)",
    ),
    "digitalgov": dict(
        repo="GSA/digitalgov.gov",
        commit="4979583206d90ff1707b097454a9b169ca9e95e4",
        paths=["content/news"],
        what="News posts of digital.gov (General Services Administration)",
        terms="public domain in the U.S., CC0 1.0 elsewhere (the repository's LICENSE)",
    ),
    "18f": dict(
        repo="18F/18f.gsa.gov",
        commit="0a55c75e6d9bc71c80136a3867dac52356177443",
        paths=["content/posts"],
        what="Posts of the 18F blog (General Services Administration)",
        terms="public domain in the U.S., CC0 1.0 elsewhere (the repository's LICENSE.md)",
    ),
}
