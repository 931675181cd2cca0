"""Writes docs/channels.md, the table of what is guarded, from the table that the tests run over.

With `--check` nothing is written, and the exit status is 1 when the page is stale.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "channels.md"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "serve")]

import channels  # noqa: E402  (the tests' folder has to be known first)

HEAD = """# What is guarded, channel by channel

<!-- Written by scripts/channels_docs.py from tests/serve/channels.py: run `make docs` after a change. -->

Every row is a test (`tests/serve/test_channels.py`) that puts a flagged text into one channel of a running proxy.

| | |
|---|---|
| judged | the text is read; a flagged request is blocked, a flagged reply stopped, streamed and whole alike |
| refused | HTTP 400 that names the field; the upstream is not asked |
| left out | the channel does not reach the client; the rest of the reply does |
| breaks off | 502, or an error event that ends the stream |

What is not listed is refused in requests and left out of replies. Endpoints that are not listed are refused: see
[serve](serve.md#what-is-guarded).
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for endpoint in channels.ENDPOINTS:
        lines += [f"## {endpoint}", "", "| | channel | guarded | |", "|---|---|---|---|"]
        for asked in channels.REQUESTS:
            if asked.endpoint == endpoint:
                named = f"names `{_cell(asked.field)}`" if asked.field else ""
                lines.append(f"| request | {_cell(asked.channel)} | {asked.guarded} | {named} |")
        for reply in channels.REPLIES:
            if reply.endpoint == endpoint:
                how = "streamed, whole" if reply.status == 200 else f"HTTP status {reply.status}"
                lines.append(f"| reply | {_cell(reply.channel)} | {reply.guarded} | {how} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the page, or with `--check` say whether it is stale; gives the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/channels.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is stale")
    check = parser.parse_args().check
    fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
    if fresh:
        return 0
    if not check:
        PAGE.write_text(page(), encoding="utf-8")
    print(
        f"{PAGE.name} {'is stale: run `make docs`' if check else 'written'}", file=sys.stderr if check else sys.stdout
    )
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(main())
