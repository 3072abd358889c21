"""Labels of a batch, and the pairs that follow from them."""

from dataclasses import dataclass, replace

from lookalike.learn.losses.term import Comparison, Tensor
from lookalike.shapes import Bool, Float, Int64


@dataclass(frozen=True)
class Teacher:
    """Features for a network to reproduce, and how they are compared.

    Attributes:
        features: of the images.
        centre: the mean of the features of all training images.
        whitening: the matrix that whitens them within classes.
        weight: of a public classifier of these features.
        bias: of that classifier.
    """

    features: Float[Tensor, "b f"]
    centre: Float[Tensor, " f"]
    whitening: Float[Tensor, "f f"]
    weight: Float[Tensor, "c f"]
    bias: Float[Tensor, " c"]

    def take(self, rows: Int64[Tensor, " b"]) -> "Teacher":
        """Select the images at these rows."""
        return replace(self, features=self.features[rows])


@dataclass(frozen=True)
class SoftLabels:
    """Scores of ImageNet's classes, and a classifier of embeddings that gives such scores.

    Attributes:
        scores: of each image's photo, before the softmax.
        known: whether each image has a photo; the scores are 0 otherwise.
        weight: of the classifier of embeddings of length 1.
        bias: of that classifier.
    """

    scores: Float[Tensor, "b c"]
    known: Bool[Tensor, " b"]
    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]

    def take(self, rows: Int64[Tensor, " b"]) -> "SoftLabels":
        """Select the images at these rows."""
        return replace(self, scores=self.scores[rows], known=self.known[rows])


@dataclass(frozen=True)
class Targets:
    """Labels of the images of a batch.

    Attributes:
        labels: the class of each image.
        items: the item of each image; a sketch and its photo are one item.
        sketch: whether each image is a sketch.
        tuples: pairs or triplets of positions that the sampler drew, as in `sampling.Batch`; None to compare all images of
            the batch.
        teacher: the features to reproduce, if a loss term needs them.
        soft_labels: ImageNet's classes of the photos, if a loss term needs them.
    """

    labels: Int64[Tensor, " b"]
    items: Int64[Tensor, " b"]
    sketch: Bool[Tensor, " b"]
    tuples: Int64[Tensor, "t w"] | None = None
    teacher: Teacher | None = None
    soft_labels: SoftLabels | None = None

    def groups(self, term: Comparison) -> Int64[Tensor, " b"]:
        """Return the number of each image's class or item: two images are a positive pair if their numbers are equal."""
        return self.labels if term.target == "class" else self.items

    def tuples_of(self, term: Comparison) -> Int64[Tensor, "t w"] | None:
        """Return the drawn tuples that a term compares; with ``across``, those in which only the anchor is a sketch."""
        if self.tuples is None or not term.across:
            return self.tuples
        sketch = self.sketch[self.tuples]
        return self.tuples[sketch[:, 0] & ~sketch[:, 1:].any(dim=1)]

    def drawn_photos(self) -> tuple[Int64[Tensor, " s"], Int64[Tensor, " s"]]:
        """Return the positions of the sketches whose photo is in the batch, and of these photos."""
        import torch

        sketches, photos = torch.where(self.sketch)[0], torch.where(~self.sketch)[0]
        same = self.items[sketches][:, None] == self.items[photos]
        found = same.any(dim=1)
        # `max` gives the first photo of an item that is in the batch twice.
        return sketches[found], photos[same[found].int().max(dim=1).indices] if len(photos) else photos


@dataclass(frozen=True)
class Pairs:
    """Pairs of images of a batch: two positions, and whether the pair is positive."""

    left: Int64[Tensor, " p"]
    right: Int64[Tensor, " p"]
    same: Bool[Tensor, " p"]


def pairs(targets: Targets, term: Comparison) -> Pairs:
    """List the pairs that a term compares.

    They come from the drawn tuples; a triplet gives two pairs. Without tuples they are all pairs of the batch, each once;
    with ``across``, all pairs of a sketch and a photo.
    """
    import torch

    groups = targets.groups(term)
    tuples = targets.tuples_of(term)
    if tuples is not None:
        left = tuples[:, :1].expand(-1, tuples.shape[1] - 1).reshape(-1)
        right = tuples[:, 1:].reshape(-1)
    elif term.across:
        left, right = torch.where(targets.sketch[:, None] & ~targets.sketch)
    else:
        left, right = torch.triu_indices(len(groups), len(groups), offset=1, device=groups.device)
    return Pairs(left, right, groups[left] == groups[right])


def triplets(
    targets: Targets, term: Comparison
) -> tuple[Int64[Tensor, " t"], Int64[Tensor, " t"], Int64[Tensor, " t"]]:
    """List the positions of anchors, positives and negatives: the drawn triplets, or all of the batch.

    With ``across``, anchors are sketches, and the others photos.
    """
    import torch

    drawn = targets.tuples_of(term)
    if drawn is not None:
        anchor, positive, negative = drawn.unbind(1)
        return anchor, positive, negative
    groups = targets.groups(term)
    same = groups[:, None] == groups
    allowed = targets.sketch[:, None] & ~targets.sketch if term.across else torch.ones_like(same)
    positives = same & allowed
    positives.fill_diagonal_(fill_value=False)
    anchor, positive, negative = torch.where(positives[:, :, None] & (~same & allowed)[:, None, :])
    return anchor, positive, negative


def pair_distances(x: Float[Tensor, "b d"], chosen: Pairs, power: int) -> Float[Tensor, " p"]:
    """Compute (Σ |x_j - y_j|^power)^(1/power) of each pair. At 0, the gradient is 0 too."""
    import torch

    if len(chosen.left) <= len(x):
        lengths: Tensor = torch.linalg.vector_norm(x[chosen.left] - x[chosen.right], ord=power, dim=1)
        return lengths
    # With more pairs than rows, the differences (p, d) take more memory than the distance matrix (b, b). A matrix product
    # would lose small distances to rounding.
    matrix = torch.cdist(x, x, p=power, compute_mode="donot_use_mm_for_euclid_dist")
    return matrix[chosen.left, chosen.right]


def pair_mean(each: Float[Tensor, " p"], same: Bool[Tensor, " p"], targets: Targets) -> Float[Tensor, ""]:
    """Average over pairs: drawn pairs equally; for all pairs of a batch, half the positive mean plus half the negative.

    In a batch of many classes few pairs are positive, so a plain mean would ignore them. A kind without pairs counts as 0.
    """
    if targets.tuples is not None:
        return each.sum() / max(len(each), 1)
    positive, negative = ((each * side).sum() / side.sum().clamp(min=1) for side in (same, ~same))
    return (positive + negative) / 2
