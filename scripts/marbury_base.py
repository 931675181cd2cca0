"""Make marbury-base: all-MiniLM-L6-v2 with a causal mask, adapted so that every prefix state knows its prefix.

    python scripts/marbury_base.py TEXT DATA OUT [--minutes 60] [--threads 1]

TEXT has assistant_answers.jsonl.gz and books.jsonl.gz, DATA has conversations (*.jsonl, *.jsonl.gz with `messages`).
Two losses. Next token, with tied embeddings, on a share of the positions. Distillation: a linear map of the state at a
position shall be the embedding that the bidirectional teacher (the same MiniLM, unchanged) gives to the text up to
there, its last 250 tokens at most. No label of any row is used, and the sources in HELD_OUT are not read at all, so
that benchmarks may test on them. A killed run goes on from its last checkpoint.
"""

import argparse
import gzip
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Sequence, Split
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from marbury.classifier.backbone import MarburyBaseConfig, MarburyBaseForCausalLM, save_packed
from marbury.classifier.base import minilm_path
from marbury.classifier.encoding import MAX_PIECE, Encoder
from marbury.records import Message

HELD_OUT = {"fuzzyai", "oasst", "self_instruct", "mtbench101"}  # sources that benchmarks test on
SHARES = {"answers": 0.4, "books": 0.15, "conversations": 0.45}  # of the sequences
POSITIONS = 1024
NEXT_TOKEN_SHARE = 0.06  # positions that the next-token loss looks at
PREFIXES = 2  # positions per sequence that the teacher is asked about
TEACHER_TOKENS = 250
FIRST_NEW, NEW = 100, 880  # unused places of the vocabulary that new characters take
EMOJI = "🔒🔓😀😂🤣😊😍🙏👍🔥❤💀😈💣🔪🔫💊💉⚠☠✅❌➡⭐🎉🤖👀💯🚀🧪⚗🔬🧨"


@dataclass(frozen=True)
class Work:
    """How much is done: minutes of training, and what a step holds."""

    minutes: float
    tokens: int = 3072  # of one step
    rate: float = 3e-4


def read(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            yield json.loads(line)


def for_training(task: str) -> bool:
    """Whether answers to this task may be trained on; the others are left for benchmarks."""
    return zlib.crc32(task.encode()) % 2 == 0


def conversations(folder: Path) -> list[list[Message]]:
    paths = [p for p in sorted(folder.glob("*.jsonl*")) if p.name.partition(".")[0] not in HELD_OUT]
    return [[Message(m["role"], m["content"]) for m in row["messages"]] for p in paths for row in read(p)]


def as_conversation(text: str, rng: random.Random) -> list[Message]:
    """Plain text as a request and the reply to it: a place in it is chosen, some of what follows is the reply."""
    words = text.split(" ")
    at = rng.randrange(max(1, len(words) - 20))
    cut = rng.choice((8, 16, 32, 64))
    begin, rest = " ".join(words[at : at + cut]), " ".join(words[at + cut : at + 900])
    return [Message("user", begin), Message("assistant", rest)]


def new_characters(texts: list[str], tokenizer: Tokenizer) -> list[str]:
    """The characters that texts need most and the vocabulary lacks."""
    known, missing = tokenizer.get_vocab(), Counter(EMOJI)
    for text in texts:
        missing.update(c for c in tokenizer.normalizer.normalize_str(text) if not c.isspace() and c not in known)
    return [character for character, _ in missing.most_common(NEW)]


def adapted_tokenizer(source: Path, texts: list[str]) -> PreTrainedTokenizerFast:
    """MiniLM's WordPiece in which an unknown character costs only itself, and the frequent ones have a token.

    As published, one unknown character makes [UNK] of the whole word around it, and so does a word over 100
    characters: a way to blind the reader.
    """
    plain = Tokenizer.from_file(str(source / "tokenizer.json"))
    known = sorted(token for token in plain.get_vocab() if len(token) == 1)
    spec = json.loads(plain.to_str())
    vocabulary = spec["model"]["vocab"]
    for number, character in enumerate(new_characters(texts, plain), FIRST_NEW):
        vocabulary[character] = vocabulary.pop(f"[unused{number}]")
    spec["truncation"] = spec["padding"] = spec["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    unknown = "[^" + "".join(f"\\x{{{ord(c):x}}}" for c in known) + "]"
    tokenizer.pre_tokenizer = Sequence(
        [BertPreTokenizer(), Split(Regex(unknown), "isolated"), Split(Regex(f".{{{MAX_PIECE}}}"), "isolated")]
    )
    specials = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


def student_of(source: Path) -> MarburyBaseForCausalLM:
    """MiniLM's weights under a causal mask. Positions beyond the published 512 begin as the ones 256 before."""
    teacher = AutoModel.from_pretrained(source, dtype="float32")
    values = {k: v for k, v in teacher.config.to_dict().items() if k not in {"model_type", "architectures"}}
    values |= {"is_decoder": True, "max_position_embeddings": POSITIONS}
    values |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    student = MarburyBaseForCausalLM(MarburyBaseConfig(**values))
    weights = {f"bert.{k}": v for k, v in teacher.state_dict().items() if "position" not in k and "pooler" not in k}
    student.load_state_dict(weights, strict=False)
    published_PD = teacher.embeddings.position_embeddings.weight.data
    with torch.no_grad():
        student.bert.embeddings.position_embeddings.weight[:512] = published_PD
        student.bert.embeddings.position_embeddings.weight[512:] = published_PD[256:].repeat(2, 1)
    return student


class Sequences:
    """An endless stream of batches, the same for the same seed and step."""

    def __init__(self, sources: dict[str, list[Any]], encoder: Encoder, work: Work) -> None:
        self.sources, self.encoder, self.work = sources, encoder, work

    def ids(self, rng: random.Random, limit: int) -> list[int]:
        """One conversation of at most `limit` tokens."""
        name = rng.choices(list(SHARES), list(SHARES.values()))[0]
        row = rng.choice(self.sources[name])
        messages = row if name == "conversations" else as_conversation(row, rng)
        ids = list(self.encoder.start)
        for message in messages:
            ids += self.encoder.markers[message.role]
            ids += self.encoder.text(message.content[: 6 * limit])
            if len(ids) > limit:
                break
        if messages[-1].role == "user":
            ids += self.encoder.markers["assistant"]
        return ids[:limit]

    def pool(self, number: int) -> list[list[list[int]]]:
        """Batches of rows of similar length."""
        rng = random.Random(f"pool:{number}")
        batches = []
        for limit, share in ((192, 0.55), (384, 0.35), (POSITIONS, 0.10)):
            rows = sorted((self.ids(rng, limit) for _ in range(int(48 * share * self.work.tokens / limit))), key=len)
            while rows:
                size = max(1, self.work.tokens // max(16, len(rows[-1])))
                batches.append(rows[-size:])
                del rows[-size:]
        rng.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[list[list[int]]]:
        number = 0
        while True:
            yield from self.pool(number)
            number += 1


def padded(rows: list[list[int]]) -> Tensor:
    """Rows as one tensor, filled with [PAD]; lengths are multiples of 32, so that few shapes have to be prepared."""
    ids_BT = torch.zeros((len(rows), -(-max(map(len, rows)) // 32) * 32), dtype=torch.long)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = torch.tensor(row)
    return ids_BT


class Teacher:
    """The published MiniLM: embeddings of token sequences, mean over the last layer, length 1."""

    def __init__(self, source: Path, encoder: Encoder) -> None:
        self.model = AutoModel.from_pretrained(source, dtype="float32").eval()
        tokenizer = AutoTokenizer.from_pretrained(source)
        self.cls, self.sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.markers = {token for group in encoder.markers.values() for token in group} | set(encoder.start)
        self.unread = self.markers | set(encoder.unreadable)  # what it has never seen

    @torch.no_grad()
    def __call__(self, rows: list[list[int]]) -> Tensor:
        """Embeddings (row, width) of these sequences, the last tokens of each."""
        texts = [[t for t in row if t not in self.unread][-TEACHER_TOKENS:] for row in rows]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            ids_BT = padded([[self.cls, *texts[i], self.sep] for i in part])
            mask_BT = ids_BT != 0
            states_BTD = self.model(ids_BT, attention_mask=mask_BT).last_hidden_state.float()
            means_BD = (states_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)
            out[part] = nn.functional.normalize(means_BD, dim=1)
        return out


def losses(
    student: MarburyBaseForCausalLM, prefix_head: nn.Linear, teacher: Teacher, rows: list[list[int]], rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Next-token and distillation loss of one batch."""
    ids_BT = padded(rows)
    states_BTD = student.bert(ids_BT, use_cache=False).last_hidden_state
    asked = [(b, at) for b, row in enumerate(rows) for at in _positions(row, teacher, rng)]
    target_ND = teacher([rows[b][: at + 1] for b, at in asked])
    b_N, at_N = torch.tensor(asked).T
    distance = 1 - cosine_similarity(prefix_head(states_BTD[b_N, at_N]).float(), target_ND).mean()
    chosen = torch.rand(ids_BT.shape[0], ids_BT.shape[1] - 1) < NEXT_TOKEN_SHARE
    chosen &= ids_BT[:, 1:] != 0
    logits_NV = student.cls(states_BTD[:, :-1][chosen])
    next_token = cross_entropy(logits_NV.float(), ids_BT[:, 1:][chosen], reduction="sum") / chosen.sum().clamp(min=1)
    return next_token, distance


def _positions(row: list[int], teacher: Teacher, rng: random.Random) -> list[int]:
    """Ends of turns first (they are what the input side reads), then random places."""
    ends = [i for i in range(2, len(row)) if row[i] in teacher.markers]
    return ends[-1:] + [rng.randrange(2, len(row)) for _ in range(PREFIXES - 1) if len(row) > 2]


def train(student: MarburyBaseForCausalLM, teacher: Teacher, sequences: Sequences, work: Work, out: Path) -> None:
    """Adapt the student for the given minutes; a checkpoint every 200 steps."""
    width = student.config.hidden_size
    prefix_head = nn.Linear(width, width)
    nn.init.eye_(prefix_head.weight)
    nn.init.zeros_(prefix_head.bias)
    parameters = [*student.parameters(), *prefix_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=work.rate, betas=(0.9, 0.98), weight_decay=0.01)
    step, spent, tokens = 0, 0.0, 0
    place = out / "checkpoint.pt"
    if place.exists():
        saved = torch.load(place)
        step, spent, tokens = saved["step"], saved["spent"], saved["tokens"]
        student.load_state_dict(saved["student"])
        prefix_head.load_state_dict(saved["head"])
        optimizer.load_state_dict(saved["optimizer"])
    console, begun, means = Console(), time.monotonic(), [0.0, 0.0]
    for number, rows in enumerate(sequences):
        if number < step:
            continue
        now = spent + time.monotonic() - begun
        if now > 60 * work.minutes:
            break
        share = now / (60 * work.minutes)
        for group in optimizer.param_groups:
            group["lr"] = work.rate * min(1.0, (step + 1) / 100) * (1 - share)
        with torch.autocast("cpu", torch.bfloat16):
            next_token, distance = losses(student, prefix_head, teacher, rows, random.Random(f"step:{step}"))
        torch.autograd.backward(0.25 * next_token + 5 * distance)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + sum(map(len, rows))
        means = [m + (x.item() - m) / min(step, 50) for m, x in zip(means, (next_token, distance), strict=True)]
        if step % 50 == 0:
            console.print(
                f"step {step}  {now / 60:.1f} min  {tokens / 1e6:.2f} M tokens ({tokens / now:.0f}/s)  "
                f"next token {means[0]:.3f}  cosine distance {means[1]:.4f}"
            )
        if step % 200 == 0:
            state = {"student": student.state_dict(), "head": prefix_head.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "step": step, "tokens": tokens}
            torch.save(state | {"spent": spent + time.monotonic() - begun}, place.with_suffix(".new"))
            place.with_suffix(".new").rename(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    sources: dict[str, list[Any]] = {
        "answers": [r["text"] for r in read(options.text / "assistant_answers.jsonl.gz") if for_training(r["task"])],
        "books": [r["text"] for r in read(options.text / "books.jsonl.gz")],
        "conversations": conversations(options.data),
    }
    chunks = [book[at : at + 8000] for book in sources["books"] for at in range(0, len(book), 8000)]
    sources["books"] = chunks
    talk = [m.content for messages in sources["conversations"] for m in messages]
    tokenizer = adapted_tokenizer(minilm_path(), [*sources["answers"][:4000], *chunks[:1000], *talk])
    tokenizer.save_pretrained(options.out)
    encoder = Encoder(tokenizer)
    student = student_of(minilm_path())
    work = Work(options.minutes)
    train(student, Teacher(minilm_path(), encoder), Sequences(sources, encoder, work), work, options.out)
    save_packed(student, options.out)


if __name__ == "__main__":
    main()
