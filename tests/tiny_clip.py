"""A small CLIP, trained in seconds on photos of the toy shop and captions such as “a red mug”."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from lookalike import sample
from lookalike.encoders.card import Card, Input, TextInput
from lookalike.metric import Metric
from lookalike.sample import Product

LABELS = ("ball", "car", "dress", "mug", "sofa", "umbrella")
COLOURS = ("red", "blue", "mustard", "forest", "white", "plum")
TEMPLATES = ("{} {}", "a {} {}", "a photo of a {} {}", "the {} {}")

SIZE, WIDTH, TOKENS, STEPS, BATCH = 32, 64, 8, 110, 72
PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[START]", "[END]"
WORDS = ("a", "of", "photo", "the", *LABELS, *COLOURS)
NUMBERS = {token: number for number, token in enumerate([PADDING, UNKNOWN, START, END, *WORDS])}


def products(count: int, seed: int) -> list[Product]:
    """Return the first products of a seed that have one of the labels and one of the colours."""
    known = (p for p in sample.catalogue(20 * count, seed) if p.label in LABELS and p.attributes["colour"] in COLOURS)
    return [product for product, _ in zip(known, range(count), strict=False)]


class Photos(nn.Module):
    """Four convolutions, and a linear layer to the common space."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 24), (24, 48), (48, 96), (96, 128)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.layers(x))


class Texts(nn.Module):
    """A transformer of one layer, whose value at the last token is the embedding, as in CLIP."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(words, WIDTH), nn.Parameter(0.01 * torch.randn(TOKENS, WIDTH))
        self.queries, self.keys, self.values, self.project = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.register_buffer("causal", torch.full((TOKENS, TOKENS), -1e4).triu(1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norms[0](self.tokens(ids) + self.places)
        weights = self.queries(x) @ self.keys(x).transpose(1, 2) / WIDTH**0.5 + self.causal
        x = self.norms[1](x + weights.softmax(-1) @ self.values(x))
        last = (ids == NUMBERS[END]).to(x.dtype)[..., None]
        return normalize(self.project((x * last).sum(1)))


def make(folder: Path) -> Path:
    """Train the encoder, write it into a new folder, and return the folder."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    shown = products(240, seed=1)
    photos = np.stack([np.asarray(product.photo(SIZE)) for product in shown])
    tokenizer = _tokenizer()
    ids = torch.tensor(
        [
            [_encode(tokenizer, template.format(p.attributes["colour"], p.label)) for template in TEMPLATES]
            for p in shown
        ]
    )
    x = torch.tensor(photos).permute(0, 3, 1, 2) / 255
    same = torch.tensor(
        [[a.label == b.label and a.attributes["colour"] == b.attributes["colour"] for b in shown] for a in shown]
    )
    image, text = Photos(), Texts(len(NUMBERS))
    parameters = [*image.parameters(), *text.parameters()]
    optimiser = torch.optim.AdamW(parameters, 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.tensor(rng.choice(len(shown), BATCH, replace=False))
        flip = torch.tensor(rng.integers(0, 2, BATCH) > 0)[:, None, None, None]
        batch = torch.where(flip, x[rows].flip(3), x[rows])
        captions = ids[rows, torch.tensor(rng.integers(0, len(TEMPLATES), BATCH))]
        logits = 10 * image(batch) @ text(captions).T
        # Captions of the same words are all right.
        target = same[rows][:, rows].float()
        target = target / target.sum(1, keepdim=True)
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    _export(image.eval(), torch.zeros(1, 3, SIZE, SIZE), "photos", folder / "photo.onnx")
    _export(text.eval(), ids[:1, 0], "input_ids", folder / "text.onnx")
    tokenizer.save(str(folder / "tokenizer.json"))
    card = Card(
        name="tiny-clip",
        description="A small CLIP, for tests.",
        licence="Apache-2.0",
        dimension=WIDTH,
        output="float",
        metric=Metric.COSINE,
        input=Input(size=SIZE, fit="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        text=TextInput(tokens=TOKENS, padding=NUMBERS[PADDING]),
        branches=("photo", "text"),
    )
    (folder / "encoder.json").write_text(card.model_dump_json(indent=2), encoding="utf-8")
    return folder


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(NUMBERS, UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, NUMBERS[START]), (END, NUMBERS[END])]
    )
    return tokenizer


def _encode(tokenizer: Tokenizer, text: str) -> Sequence[int]:
    tokens = tokenizer.encode(text).ids
    return [*tokens, *[NUMBERS[PADDING]] * (TOKENS - len(tokens))]


def _export(network: nn.Module, example: Tensor, name: str, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without dynamo is old, and takes a tenth of the time
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=[name],
            output_names=["embedding"],
            dynamic_axes={name: {0: "n"}, "embedding": {0: "n"}},
            dynamo=False,
        )
