"""Writes docs/guarded.md: which texts of which endpoint are guarded, as a drill of Marbury's own guard finds it.

With `--check` nothing is written, and the exit status is 1 when the page is stale.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from marbury.drill import Report, Target, Upstream, drill
from marbury.drill.own import own_guard
from marbury.drill.run import WORD
from marbury.drill.verdict import Row

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guarded.md"
HEAD = """# What is guarded

<!-- Written by scripts/guarded_docs.py from a drill of the guard: run `make docs` after a change. -->

Every text of a request and of a reply for which the [drill](drill.md) has an attack, and what the guard does with it:
the same table comes out of `marbury drill --self`. A test runs the attacks and compares.

- **judged**: a word that is not allowed stops the request, or the reply at that word.
- **dropped**: no client hears of this channel, whatever is in it; *breaks off*: the reply ends with an error there.
- **refused**: a request with this field gets HTTP 400 that names it. *A switch* is a field by which a client may try to
  talk a guard out of its work.

What has no line here is not known to the drill. Unknown fields of a request are refused and unknown fields of a reply
dropped: see [serve](serve.md#what-is-guarded).
"""
_KINDS = {"reply": "in a reply", "request": "in a request", "switch": "a switch"}


async def own_report() -> Report:
    """A drill of the guard as `marbury drill --self` runs it."""
    async with Upstream().listening("127.0.0.1", 0) as upstream:
        with own_guard(WORD, upstream.url) as url:
            return await drill(Target(url, WORD), upstream)


def page(report: Report) -> str:
    """The page for a report in which nothing leaked."""
    lines = [HEAD]
    for name in dict.fromkeys(row.endpoint for row in report.rows):
        rows = [row for row in report.rows if row.endpoint == name]
        places = dict.fromkeys((row.kind, row.where) for row in rows if row.kind in _KINDS)
        if name in report.not_served or not places:
            continue
        lines += [f"## {name}", "", "| | | streamed | whole |", "|---|---|---|---|"]
        for kind, where in sorted(places, key=lambda place: place[0]):
            same = [row for row in rows if row.kind in (kind, "control") and row.where == where]
            done = [_done(kind, [row for row in same if row.stream is stream]) for stream in (True, False)]
            lines.append(f"| {_KINDS[kind]} | {where} | {done[0]} | {done[1]} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _done(kind: str, rows: list[Row]) -> str:
    attacks = [row for row in rows if row.kind == kind]
    if not attacks:
        return ""
    bad = sorted({row.verdict for row in rows} - {"ok", "dropped", "not served"})
    if bad:
        return f"**{', '.join(bad)}**"
    if any(row.verdict == "not served" or row.status == 400 for row in attacks):
        return "refused"
    if all(row.ended == "content_filter" for row in attacks):
        return "judged"
    return "breaks off" if any(row.status >= 500 or row.ended == "error event" for row in attacks) else "dropped"


def main() -> int:
    """Write the page, or with `--check` say whether it is stale; gives the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/guarded.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is stale")
    check = parser.parse_args().check
    report = asyncio.run(own_report())
    text = page(report)
    if report.failed or (check and PAGE.read_text(encoding="utf-8") != text):
        said = "the drill failed: run `marbury drill --self`" if report.failed else "is stale: run `make docs`"
        print(f"{PAGE.relative_to(ROOT)} {said}", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
