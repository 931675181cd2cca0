"""How many texts of one reply may be watched: each holds memory of the classifier until it ends."""

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest

MOST_TEXTS = 1024


def one_more(judged: JudgedRequest) -> AsyncWatch:
    """A watch over another text of a reply.

    Raises:
        ModelError: the upstream says more texts than an honest one would.
    """
    if len(judged.watches) >= MOST_TEXTS:
        raise ModelError(f"the upstream sent more than {MOST_TEXTS} texts in one reply")
    return judged.watch()
