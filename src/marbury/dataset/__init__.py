"""From examples, variants and imported rows to train, valid and test, and a card of them."""

from marbury.dataset.stage import DatasetSettings, load, run

__all__ = ["DatasetSettings", "load", "run"]
