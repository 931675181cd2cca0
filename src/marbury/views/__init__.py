"""What a text may hide, decoded: `find` for whole texts, `stream` for texts that grow."""

from marbury.views.find import View, views
from marbury.views.stream import ViewStream

__all__ = ["View", "ViewStream", "views"]
