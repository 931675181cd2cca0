"""Asks the scorer about requests and replies, in its one thread and within a time, and closes when that fails.

What happens to a blocked request or a stopped reply is for the caller: `Guard` for a chat model, `serve` for HTTP.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from marbury.errors import GuardError
from marbury.guard.judged import JudgedRequest, Mode, Policy
from marbury.guard.rating import Rating, rate
from marbury.guard.together import advance_all
from marbury.guard.worker import Worker
from marbury.records import Message
from marbury.scoring import Scorer, Thresholds


class Judge:
    """Judges requests and the replies to them.

    A side in `enforce` holds text back and stops it; in `shadow` nothing is held or delayed and the verdicts are
    only remembered; `off` does not look. `timeout_s` bounds every wait for the scorer, the queue before it
    included. `version` is the constitution's and `classifier` the weights', for whoever asks what is enforced. With
    `fail_open` text passes unread where the scorer fails; what was stopped stays stopped.
    """

    def __init__(
        self,
        scorer: Scorer,
        thresholds: Thresholds,
        *,
        input_mode: Mode = "enforce",
        output_mode: Mode = "enforce",
        timeout_s: float = 10.0,
        version: str = "",
        classifier: str = "",
        fail_open: bool = False,
    ) -> None:
        self.version = version
        self.classifier = classifier
        self.input_mode = input_mode
        self.output_mode = output_mode
        self.fail_open = fail_open
        self._policy = Policy(scorer, thresholds, input_mode, output_mode, timeout_s, fail_open)
        self._worker = Worker(partial(advance_all, scorer))

    @property
    def waiting(self) -> int:
        """How many jobs wait for the scorer, about."""
        return self._worker.waiting

    @property
    def categories(self) -> tuple[str, ...]:
        """The restricted categories."""
        return self._policy.scorer.categories

    async def read(
        self, *conversations: Sequence[Message], beside: "Judge | None" = None, keep: bool = False
    ) -> JudgedRequest:
        """Read a request of one conversation or more; where the input is enforced, its verdict is then there.

        `beside`: another policy that judges the same in shadow; what it says, and its failure, changes nothing.

        `keep`: remember the texts of the reply for whoever audits (`JudgedRequest.heard`).

        Raises:
            GuardError: the scorer failed or took too long.
        """
        watching = await beside._watch(conversations) if beside else None
        request = JudgedRequest(self._policy, self._worker, *conversations, beside=watching, keep=keep)
        await request.open()
        return request

    async def _watch(self, conversations: Sequence[Sequence[Message]]) -> JudgedRequest:
        """Read a request in shadow, whatever the modes are."""
        policy = replace(self._policy, input_mode="shadow", output_mode="shadow")
        request = JudgedRequest(policy, self._worker, *conversations)
        await request.open()
        return request

    async def rate(self, messages: Sequence[Message], reply: str | None = None) -> Rating:
        """What the classifiers say of an exchange, whatever is enforced.

        Raises:
            GuardError: the scorer failed or took too long.
        """
        return await self._worker.run(partial(rate, self._policy, messages, reply), self._policy.timeout_s)

    async def warm_up(self) -> None:
        """Score a small exchange, however long the first one takes.

        Raises:
            GuardError: the scorer failed.
        """
        await self._worker.submit(partial(_score_once, self._policy.scorer))

    def close(self) -> None:
        """End the scorer's thread."""
        self._worker.close()


def _score_once(scorer: Scorer) -> None:
    reading = scorer.read([Message("user", "Hello, who are you?")])
    try:
        reply = reading.reply()
        reply.push("I am a reply that warms the classifier up.")
        reply.finish()
        reply.close()
    except Exception as error:
        raise GuardError(f"the classifier failed on its first exchange: {type(error).__name__}") from error
    finally:
        reading.close()
