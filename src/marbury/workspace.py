"""The run folder: where every artifact lies, and the manifest that says what is done.

A stage is done when its manifest row says that it ran with these settings on these inputs and its outputs are
still what it wrote. The row is written last, so a killed stage is simply not done. Every artifact's name
stands here, once.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marbury.errors import WorkspaceError

Counts = dict[str, int | float]
_VERSIONS = ("marbury", "torch", "transformers", "tokenizers", "numpy")
_ROW = {"settings", "inputs", "outputs", "counts", "versions", "seconds", "finished"}


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old one or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def hash_path(path: Path) -> str:
    """sha256 of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{part.relative_to(path)}\0{hash_path(part)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Stage:
    """One run of one stage: its name, its settings, and the hashes of what it reads."""

    name: str
    settings: Any
    inputs: Mapping[str, str]

    def key(self) -> dict[str, Any]:
        """What must be equal for a finished run to count as this one."""
        settings = json.loads(json.dumps(asdict(self.settings), default=str))
        return {"settings": settings, "inputs": dict(self.inputs)}


class Workspace:
    """A run folder. Making one touches nothing on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.constitution = root / "constitution.md"
        self.settings = root / "marbury.toml"
        self.manifest = root / "manifest.json"
        self.examples = root / "synth" / "examples.jsonl"
        self.dropped = root / "synth" / "dropped.jsonl"
        self.answers = root / "synth" / "answers"  # the chat models' answers by request hash
        self.variants = root / "augment" / "examples.jsonl"
        self.attacks = root / "redteam" / "attacks.jsonl"
        self.dataset = root / "dataset"
        self.train = root / "dataset" / "train.jsonl"
        self.valid = root / "dataset" / "valid.jsonl"
        self.test = root / "dataset" / "test.jsonl"
        self.card = root / "dataset" / "README.md"
        self.set_aside = root / "dataset" / "dropped.jsonl"  # imported rows that could not be used
        self.classifier = root / "classifier"
        self.checkpoints = root / "checkpoints"
        self.thresholds = root / "calibrate" / "thresholds.json"
        self.curves = root / "calibrate" / "curves.json"
        self.report = root / "evaluate" / "report.json"
        self.page = root / "evaluate" / "report.html"
        self.audit = root / "audit"  # the proxy's rows: an SQLite database if it is one, and what waits for it

    def name_of(self, path: Path) -> str:
        """A path as the manifest writes it: relative to the run folder where it lies inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def need(self, path: Path, verb: str) -> Path:
        """The path, if it exists.

        Raises:
            WorkspaceError: it does not; the message names the verb that makes it.
        """
        if not path.exists():
            raise WorkspaceError(f"no {self.name_of(path)} in {self.root}: run `marbury {verb} {self.root}`")
        return path

    def rows(self) -> dict[str, Any]:
        """The manifest: a row per finished stage.

        Raises:
            WorkspaceError: the manifest is damaged.
        """
        if not self.manifest.exists():
            return {}
        try:
            rows: dict[str, Any] = json.loads(self.manifest.read_bytes())
            if not isinstance(rows, dict) or not all(isinstance(r, dict) and _ROW <= r.keys() for r in rows.values()):
                raise ValueError("not a row per stage")
        except ValueError as error:
            hint = "delete it to run all stages again"
            raise WorkspaceError(f"{self.manifest}: damaged manifest ({error}); {hint}") from error
        return rows

    def done(self, stage: Stage) -> bool:
        """Whether the stage ran with these settings and inputs and its outputs are untouched."""
        row = self.rows().get(stage.name)
        if row is None or {k: row.get(k) for k in ("settings", "inputs")} != stage.key():
            return False
        for name, digest in row["outputs"].items():
            path = self.root / name
            if not path.exists() or hash_path(path) != digest:
                return False
        return True

    def record(self, stage: Stage, counts: Counts, outputs: Sequence[Path], seconds: float) -> None:
        """Write the row that means "done"."""
        rows = self.rows()
        rows[stage.name] = {
            **stage.key(),
            "outputs": {self.name_of(path): hash_path(path) for path in outputs},
            "counts": counts,
            "versions": {name: _version(name) for name in _VERSIONS},
            "seconds": round(seconds, 1),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_json(self.manifest, rows)

    def run(self, stage: Stage, outputs: Sequence[Path], door: Callable[[], Counts], *, force: bool = False) -> bool:
        """Run a stage's door unless it is done; give whether it ran."""
        if not force and self.done(stage):
            return False
        started = time.monotonic()
        counts = door()
        self.record(stage, counts, outputs, time.monotonic() - started)
        return True

    def clear(self, path: Path) -> None:
        """Remove a file or folder of this run, if it is there."""
        assert path.is_relative_to(self.root) and path != self.root
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
