"""Tiny training runs for tests: 48 images of four colours, and networks of a few thousand weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import Tensor

from lookalike.learn import result, train
from lookalike.learn.run_folder import RunFolder

# Without batch normalisation and augmentation, any number of processes computes the same.
PLAIN = """
name: tiny
data: {sources: [{kind: npz, path: IMAGES}], validation: 0.25, size: 12}
network: {backbone: cnn, dimension: 8, unit: true, neck: false, channels: 3}
losses:
  - {kind: triplet, margin: 0.2, miner: all}
  - {kind: cross_entropy}
sampler: {classes: 4, items: 3}
augment: {flip: false}
optimiser: {learning_rate: 0.05}
schedule: {kind: constant}
train: {epochs: 2, precision: 32-true}
"""

# Two branches, batch normalisation, all augmentations.
SKETCHES = """
name: sketches
data: {sources: [{kind: toyshop, count: 96, seed: 5, sketches: 1}], validation: 0.34, size: 16}
network: {backbone: fast, widths: [8, 8, 8], dimension: 8}
losses:
  - {kind: triplet, margin: 0.2, target: item, across: true, miner: hard}
  - {kind: cross_entropy}
sampler: {classes: 8, items: 2}
augment: {flip: true, shift: 2, erase: 0.5, colour: 0.1, rotate: 5, zoom: 0.1}
optimiser: {learning_rate: 0.01}
schedule: {kind: one_cycle}
train: {epochs: 2, precision: bf16-mixed, average: 0.5}
"""

# Two stages: the photo branch as a classifier, then sketches and photos by triplets.
STAGES = """
name: staged
network: {backbone: fast, widths: [8, 8, 8], dimension: 8}
sampler: {classes: 8, items: 2}
augment: {shift: 2}
schedule: {kind: one_cycle}
stages:
  - name: classify
    data: {sources: [{kind: toyshop, count: 96, seed: 5}], validation: 0.34, size: 16}
    losses: [{kind: cross_entropy}]
    optimiser: {learning_rate: 0.05}
    train: {epochs: 2, precision: bf16-mixed}
  - name: triplets
    data: {sources: [{kind: toyshop, count: 96, seed: 6, sketches: 1}], validation: 0.34, size: 16}
    losses: [{kind: triplet, margin: 0.2, target: item, across: true}]
    optimiser: {kind: adam, learning_rate: 0.01}
    frozen: [photo.body.stage1]
    train: {epochs: 3, precision: bf16-mixed, average: 0.5}
"""


def write(folder: Path, text: str = PLAIN, **parts: object) -> Path:
    """Write images and a recipe; ``parts`` replace whole sections of it. Returns the recipe's path."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 12)
    colours = rng.integers(40, 215, (4, 1, 1, 3))[labels]
    pixels = np.clip(colours + rng.normal(0, 60, (48, 12, 12, 3)), 0, 255).astype(np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=labels)
    tree = yaml.safe_load(text.replace("IMAGES", str(folder / "images.npz"))) | parts
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def start(path: Path, folder: Path, *overrides: str) -> Path:
    """Train; returns the artefact's folder."""
    return train.train(path, folder, overrides=overrides)


def skip_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end after their last epoch, because the export takes longer than all of them."""
    monkeypatch.setattr(result, "write", lambda *_: None)


def lines(folder: Path) -> list[dict[str, Any]]:
    """Read the log without times."""
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "minutes"} for line in read]


def tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a run's checkpoint: weights, averages, moments, the best epoch's weights."""
    found: dict[str, Tensor] = {}

    def walk(node: object, name: str) -> None:
        if isinstance(node, Tensor):
            found[name] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}/{key}")

    walk(RunFolder(folder).read_checkpoint()["state"], "")
    return found
