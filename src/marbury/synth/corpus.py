"""The Orvane corpus: conversations that were written for the bundled constitution and ship with the package."""

from importlib.resources import as_file, files

from msgspec.structs import replace

from marbury.records import Example, read_rows


def load() -> list[Example]:
    """All rows, file by file; `source` says which file, hence which writer, a row comes from."""
    with as_file(files("marbury") / "data" / "orvane" / "corpus") as folder:
        return [
            replace(row, source=path.stem)
            for path in sorted(folder.glob("a*.jsonl"))
            for row in read_rows(path, Example)
        ]
