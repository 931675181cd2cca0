"""The door of `synth`: from a constitution to labelled conversations.

Without a model the rows are the bundled Orvane corpus. With one, the model writes requests for every category and
then the replies. Nobody grades what it writes: a label is what was asked for, less what is empty or a refusal.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from marbury.chat.endpoint import Endpoint
from marbury.chat.open import open_model
from marbury.constitution.lint import lint
from marbury.constitution.parse import Constitution, read
from marbury.errors import ConstitutionError, DataError, SettingsError
from marbury.records import Example, to_jsonl
from marbury.synth import corpus
from marbury.synth.ask import Asker
from marbury.synth.write import Dropped, write
from marbury.workspace import Counts, Workspace, write_atomic


@dataclass(frozen=True)
class SynthSettings:
    """The `[synth]` table of marbury.toml."""

    model: str = ""
    """Who writes: `openai:MODEL@http://HOST/v1` or `scripted:FILE.jsonl`; empty for the bundled Orvane corpus."""
    key_env: str = ""
    """The environment variable that holds the endpoint's key; empty for none (OPENAI_API_KEY for OpenAI itself)."""
    requests_per_category: int = 8
    """How many requests are written per category; each restricted one gets two replies, each permitted one gets one."""
    languages: tuple[str, ...] = ("en",)
    """The languages of the requests, taken in turn."""
    seed: int = 0
    """The draw of styles; another seed asks for other requests."""
    concurrency: int = 4
    """How many requests to the model are open at a time."""
    temperature: float | None = None
    """The model's temperature; left out, the endpoint decides."""
    max_tokens: int = 2000
    """The longest answer, in tokens."""
    timeout_s: float = 120.0
    """The longest silence of the endpoint, in seconds."""

    def __post_init__(self) -> None:
        if self.requests_per_category < 1:
            raise ValueError("requests_per_category is at least 1")
        if self.concurrency < 1:
            raise ValueError("concurrency is at least 1")
        if self.max_tokens < 1 or self.timeout_s <= 0:
            raise ValueError("max_tokens and timeout_s are above 0")
        if not self.languages:
            raise ValueError('languages names at least one, such as ["en"]')


def run(ws: Workspace, settings: SynthSettings) -> Counts:
    """Write the examples and, with reasons, what was dropped; give the counts.

    Raises:
        ConstitutionError: the constitution cannot be read, or the linter finds errors.
        SettingsError: there is no model, and the constitution is not Orvane's; or the model's name is wrong.
        ModelError: the model failed. Its answers so far are kept, a rerun goes on from there.
        DataError: no harmful or no harmless example came out.
    """
    constitution = _checked(ws)
    asked = remembered = 0
    if settings.model:
        examples, dropped, asker = asyncio.run(_written(ws, constitution, settings))
        asked, remembered = asker.asked, asker.remembered
    else:
        examples, dropped = _bundled(ws, constitution)
    write_atomic(ws.dropped, to_jsonl(dropped))
    harmful = sum(example.reply_harmful is True for example in examples)
    if not 0 < harmful < len(examples):
        which = "harmful" if not harmful else "harmless"
        hint = "take a model that follows the prompts (for harmful replies a helpful-only one)"
        raise DataError(f"no {which} example came out; the reasons are in {ws.dropped}: {hint}")
    write_atomic(ws.examples, to_jsonl(examples))
    return {
        "examples": len(examples),
        "harmful": harmful,
        "harmless": len(examples) - harmful,
        "dropped": len(dropped),
        "asked": asked,
        "remembered": remembered,
    }


def _checked(ws: Workspace) -> Constitution:
    constitution = read(ws.need(ws.constitution, "new"))
    errors = [finding for finding in lint(constitution) if finding.level == "error"]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        hint = f"`marbury check {ws.root}` lists everything"
        raise ConstitutionError(f"{errors[0].at(str(ws.constitution))}{more}; {hint}")
    return constitution


def _bundled(ws: Workspace, constitution: Constitution) -> tuple[list[Example], list[Dropped]]:
    """The corpus rows that the constitution has a category for."""
    rows = corpus.load()
    expected = {row.category for row in rows if row.request_harmful}
    if set(constitution.restricted_slugs) != expected:
        differing = sorted(expected.symmetric_difference(constitution.restricted_slugs))
        names = ", ".join(differing[:3]) + ", ..." * (len(differing) > 3)
        raise SettingsError(
            f"the bundled corpus belongs to the Orvane constitution, and {ws.constitution} restricts something else "
            f"({names}): set `model` under [synth] in {ws.settings}, such as openai:MODEL@http://localhost:8000/v1"
        )
    kept = [row for row in rows if row.category in constitution.slugs]
    reason = "the constitution has no such category"
    dropped = [Dropped(row.id, row.category, reason) for row in rows if row.category not in constitution.slugs]
    return kept, dropped


async def _written(
    ws: Workspace, constitution: Constitution, settings: SynthSettings
) -> tuple[Sequence[Example], Sequence[Dropped], Asker]:
    model = open_model(
        settings.model,
        folder=ws.root,
        key_env=settings.key_env,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        timeout_s=settings.timeout_s,
    )
    salt = f"{settings.temperature} {settings.max_tokens}"
    asker = Asker(model, ws.answers, concurrency=settings.concurrency, salt=salt)
    async with AsyncExitStack() as stack:
        if isinstance(model, Endpoint):
            stack.push_async_callback(model.aclose)
        examples, dropped = await write(
            constitution,
            asker,
            count=settings.requests_per_category,
            languages=settings.languages,
            seed=settings.seed,
            source=model.name,
        )
    return examples, dropped, asker
