"""Classes of products: their names, variants, prints and placement."""

from collections.abc import Callable
from dataclasses import dataclass

from lookalike.sample import accessories, clothes, furniture, leisure, outdoors, tableware
from lookalike.sample.parts import Look, Part, PatternKind

_PRINTS: tuple[PatternKind, ...] = ("plain", "plain", "plain", "stripes", "dots", "checks", "zigzag")
_PLAIN: tuple[PatternKind, ...] = ("plain",)


@dataclass(frozen=True)
class Kind:
    """A class of products.

    Attributes:
        draw: makes parts of a look, the farthest first.
        styles: its structural variants.
        prints: its patterns; one listed twice is twice as frequent.
        stands: it stands on a floor, with its shadow at its feet; otherwise it lies flat or hangs.
        exceptions: styles for which ``stands`` is reversed.
        pitch: usual distance between two stripes, in product units.
        tilt: largest rotation either way, in degrees.
    """

    draw: Callable[[Look], list[Part]]
    styles: tuple[str, ...]
    prints: tuple[PatternKind, ...] = _PRINTS
    stands: bool = True
    exceptions: tuple[str, ...] = ()
    pitch: float = 0.24
    tilt: float = 2.5


KINDS: dict[str, Kind] = {
    "backpack": Kind(accessories.backpack, ("rounded", "boxy", "roll-top"), tilt=4),
    "ball": Kind(leisure.ball, ("football", "basketball", "beach", "tennis"), _PLAIN, tilt=0),
    "bicycle": Kind(outdoors.bicycle, ("diamond", "step-through", "folding"), _PLAIN),
    "book": Kind(furniture.book, ("closed", "open", "pile"), exceptions=("open",), tilt=3),
    "bottle": Kind(tableware.bottle, ("wine", "milk", "sport", "flask"), pitch=0.2),
    "cactus": Kind(tableware.cactus, ("column", "ball", "pads"), pitch=0.2),
    "camera": Kind(
        leisure.camera, ("compact", "reflex", "instant"), ("plain", "plain", "stripes", "checks"), pitch=0.16
    ),
    "candle": Kind(tableware.candle, ("pillar", "jar", "taper"), ("plain", "plain", "stripes", "dots"), pitch=0.18),
    "car": Kind(outdoors.car, ("beetle", "hatchback", "van", "pickup"), _PLAIN, tilt=1),
    "chair": Kind(
        furniture.chair,
        ("slatted", "ladder", "solid", "round"),
        ("plain", "plain", "stripes", "dots", "checks"),
        pitch=0.2,
    ),
    "clock": Kind(furniture.clock, ("round", "square", "alarm"), _PLAIN, stands=False, exceptions=("alarm",)),
    "dress": Kind(clothes.dress, ("flared", "maxi", "straight"), stands=False, tilt=5),
    "duck": Kind(
        leisure.duck, ("smooth", "crested", "hatted", "scarfed"), ("plain", "plain", "plain", "dots", "stripes")
    ),
    "glasses": Kind(accessories.glasses, ("round", "square", "cat-eye", "aviator"), _PLAIN, stands=False, tilt=9),
    "guitar": Kind(leisure.guitar, ("acoustic", "electric", "flying"), _PLAIN, stands=False, tilt=5),
    "handbag": Kind(accessories.handbag, ("tote", "satchel", "bucket")),
    "hat": Kind(clothes.hat, ("fedora", "sunhat", "beanie", "cap", "top"), tilt=5),
    "headphones": Kind(
        accessories.headphones,
        ("round", "studio", "slim"),
        ("plain", "plain", "plain", "stripes"),
        stands=False,
        pitch=0.14,
        tilt=6,
    ),
    "key": Kind(accessories.key, ("round", "square", "oval", "plate"), _PLAIN, stands=False, tilt=12),
    "lamp": Kind(furniture.lamp, ("cone", "drum", "dome", "desk")),
    "mug": Kind(tableware.mug, ("straight", "tapered", "bowl", "barrel")),
    "pan": Kind(
        tableware.pan,
        ("frying", "saucepan", "pot"),
        ("plain", "plain", "plain", "dots", "stripes"),
        exceptions=("frying",),
    ),
    "scissors": Kind(accessories.scissors, ("office", "tailor", "round"), _PLAIN, stands=False, tilt=28),
    "shoe": Kind(clothes.shoe, ("sneaker", "boot", "high-top", "heel"), pitch=0.18),
    "sofa": Kind(furniture.sofa, ("armchair", "two-seater", "three-seater"), tilt=1, pitch=0.2),
    "t-shirt": Kind(clothes.tshirt, ("crew-neck", "v-neck", "long-sleeve"), stands=False, tilt=6),
    "table": Kind(
        furniture.table,
        ("square", "tapered", "round", "trestle"),
        ("plain", "plain", "plain", "checks", "stripes"),
        tilt=1,
    ),
    "teapot": Kind(tableware.teapot, ("round", "tall", "squat")),
    "tent": Kind(outdoors.tent, ("ridge", "dome", "tipi"), tilt=1),
    "trousers": Kind(
        clothes.trousers,
        ("straight", "flared", "slim", "shorts"),
        ("plain", "plain", "plain", "stripes", "checks"),
        stands=False,
        tilt=5,
    ),
    "umbrella": Kind(outdoors.umbrella, ("classic", "dome", "parasol"), stands=False, tilt=20),
    "vase": Kind(tableware.vase, ("amphora", "bulb", "trumpet", "cylinder")),
}
