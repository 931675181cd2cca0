"""What people say of a file of theirs: which column is what, what its labels mean, on which side its rows stay."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from marbury.dataset.columns import ABSENT, Fields
from marbury.dataset.labels import Meaning


@dataclass(frozen=True)
class Import:
    """One file of labelled rows."""

    path: str
    use: Literal["all", "train", "valid", "test"] = "all"  # divide it by request, or keep it in one split
    source: str = ""  # what its rows are called; empty: the file's name
    licence: str = ""  # for the card
    fields: Fields = field(default_factory=Fields)  # which column is what
    labels: dict[str, Meaning] = field(default_factory=dict)  # their label -> harmful, harmless or skip
    request_labels: dict[str, Meaning] = field(default_factory=dict)  # the same for requests; empty: as `labels`
    harmful_from: float | None = None  # where labels are scores, the lowest that means harmful
    assume: Literal["", "harmful", "harmless"] = ""  # the label of every row; no label column is then looked for
    refusals: bool = False  # whether requests of harmless replies are harmful where no column says
    categories: dict[str, str] = field(default_factory=dict)  # their category -> ours; "" means none

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("an import needs a path")
        if self.assume and self.fields.label not in ("", ABSENT):
            raise ValueError(f"{self.path}: `assume` labels every row, and `fields` names a label: take one away")

    @property
    def name(self) -> str:
        """What its rows are called."""
        return self.source or Path(self.path).name.partition(".")[0]


def with_paths(given: Sequence[Import], paths: Sequence[str]) -> tuple[Import, ...]:
    """These imports and those of further files, whose columns are guessed; a path that is there stays as it is."""
    known = {one.path for one in given}
    return (*given, *(Import(path) for path in dict.fromkeys(paths) if path not in known))


def places(given: Sequence[Import]) -> list[str]:
    """What each file is called in the ids of its rows: its name, or its path where two have one name."""
    names = Counter(Path(one.path).name for one in given)
    return [Path(one.path).name if names[Path(one.path).name] == 1 else one.path for one in given]
