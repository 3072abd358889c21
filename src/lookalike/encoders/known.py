"""Known public encoders: where they are, what they are for and under which licence.

Revisions and SHA-256 are those that several public projects pin. Where none was found, `Known.revision` is none: the first fetch
takes the newest, and records its commit and the SHA-256 of its files in the encoder's card.
"""

from dataclasses import dataclass
from typing import Literal

from lookalike.encoders.hub import SCHEME
from lookalike.encoders.layouts import Kind, Settings

Purpose = Literal["what looks alike", "what looks alike, and texts", "copies"]


@dataclass(frozen=True)
class Known:
    """A public encoder.

    Attributes:
        name: in lookalike.
        title: of the network.
        repository: on the hub.
        revision: commit; none: not pinned.
        network: the file with the network or its weights; none: it has no file that lookalike reads.
        sha256: of that file; none: not known.
        layout: of the repository; none: as ``network``.
        dimension: numbers an image.
        size: pixels a side.
        megabytes: of the download.
        licence: of the weights.
        terms: what a licence that does not allow every use says.
        purpose: what it finds.
        data: what it was trained on.
        pooling: how the parts of an image become one vector.
        settings: the preprocessing, if the repository does not state it.
        text: the network of texts, if it is not the counterpart of ``network``.
    """

    name: str
    title: str
    repository: str
    revision: str | None
    network: str | None
    sha256: str | None
    layout: Kind | None
    dimension: int
    size: int
    megabytes: float
    licence: str
    purpose: Purpose
    data: str
    pooling: str
    terms: str = ""
    settings: Settings | None = None
    text: str | None = None

    @property
    def address(self) -> str:
        """Its address on the hub, without the file."""
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


_CLIP_DATA = "400 million pairs of an image and a text from the web"

_ALL = (
    Known(
        name="dinov2-small",
        title="DINOv2 ViT-S/14",
        repository="onnx-community/dinov2-small",
        revision="8b1f705a3a7f6f062f6bdd21986c1583d3ef105d",
        network="onnx/model.onnx",
        sha256="f22797eabf810a75e41de68d378541ebea372122b25c4ce3ef25ff618250c20a",
        layout="transformers.js",
        dimension=384,
        size=224,
        megabytes=88.5,
        licence="Apache-2.0",
        purpose="what looks alike",
        data="142 million curated photos, without labels",
        pooling="class token",
    ),
    Known(
        name="dinov2-base",
        title="DINOv2 ViT-B/14",
        repository="onnx-community/dinov2-base",
        revision="31ef06cac16d5d301c5930d147002a058c85a5e4",
        network="onnx/model.onnx",
        sha256="320d1012a6fc65b101fc85ca30ee7a47b2e4f6a2e8bd78fb9d7036def0e30cb0",
        layout="transformers.js",
        dimension=768,
        size=224,
        megabytes=346.6,
        licence="Apache-2.0",
        purpose="what looks alike",
        data="142 million curated photos, without labels",
        pooling="class token",
    ),
    Known(
        name="clip-vit-b32",
        title="CLIP ViT-B/32",
        repository="Xenova/clip-vit-base-patch32",
        revision="d15189d7028b43f1d3e65039190477f6af591c2a",
        network="onnx/vision_model.onnx",
        sha256="fd6e1402a588279d1723c7534d4bcba5bc0b14b47dfab0e46f8c47b8270d7d40",
        layout="transformers.js",
        dimension=512,
        size=224,
        megabytes=351.7,
        licence="MIT",
        purpose="what looks alike, and texts",
        data=_CLIP_DATA,
        pooling="class token, projected (image_embeds)",
    ),
    Known(
        name="siglip2-base",
        title="SigLIP 2 ViT-B/16",
        repository="onnx-community/siglip2-base-patch16-224-ONNX",
        revision="ba1f3b0843f24bc5417d38e19c37b287d719b2f4",
        network="onnx/vision_model.onnx",
        sha256="c0573e3f4140c3a7c4e9cc5912bd6b26a033b46a6a8e8af26cbea262b163bcad",
        layout="transformers.js",
        dimension=768,
        size=224,
        megabytes=371.8,
        licence="Apache-2.0",
        purpose="what looks alike, and texts",
        text="onnx/text_model_int8.onnx",  # the whole one has more than 1 GiB
        data="10 billion images with texts in 109 languages (WebLI)",
        pooling="attention (pooler_output)",
    ),
    Known(
        name="pe-core-b16",
        title="Perception Encoder, Core B/16",
        repository="onnx-community/PE-Core-B16-224-ONNX",
        revision=None,
        network="onnx/vision_model.onnx",
        sha256=None,
        layout=None,
        dimension=1024,
        size=224,
        megabytes=375,
        licence="Apache-2.0",
        purpose="what looks alike",
        data="5.4 billion pairs of an image and a text, and 22 million videos",
        pooling="attention, projected",
        settings=Settings(
            network="onnx/vision_model.onnx",
            size=224,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bilinear",
            resize=224,
            dimension=1024,
        ),
    ),
    Known(
        name="mobileclip2-s0",
        title="MobileCLIP2-S0",
        repository="plhery/mobileclip2-onnx",
        revision="ba95759a5bdbaca53e9111e2550a76ec09c8fd9e",
        network="onnx/s0/vision_model.onnx",
        sha256="13d20ebfa8a8f63890eb2727fe4dc63009ff970f43e0f7d9d2ed999659f70c8a",
        layout="transformers.js",
        dimension=512,
        size=256,
        megabytes=45.6,
        licence="apple-amlr",
        terms="Apple's terms for machine-learning research models allow research only",
        purpose="what looks alike, and texts",
        data="billions of pairs of an image and a text (DFNDR)",
        pooling="projected (image_embeds)",
    ),
    Known(
        name="mobileclip2-s2",
        title="MobileCLIP2-S2",
        repository="plhery/mobileclip2-onnx",
        revision="ba95759a5bdbaca53e9111e2550a76ec09c8fd9e",
        network="onnx/s2/vision_model.onnx",
        sha256="a841f72c5a5085748bbe271a1d5718aba877822a15cba865bdbd0d37036b849e",
        layout="transformers.js",
        dimension=512,
        size=256,
        megabytes=143.0,
        licence="apple-amlr",
        terms="Apple's terms for machine-learning research models allow research only",
        purpose="what looks alike, and texts",
        data="billions of pairs of an image and a text (DFNDR)",
        pooling="projected (image_embeds)",
    ),
    Known(
        name="convnext-tiny",
        title="ConvNeXt-T",
        repository="timm/convnext_tiny.in12k_ft_in1k",
        revision="aa096f03029c7f0ec052013f64c819b34f8ad790",
        network="model.safetensors",
        sha256="a1aefa409b513cf209b085424eb3efffe4e4a9f511491bc2c12ea35209e6bb95",
        layout="timm",
        dimension=768,
        size=224,
        megabytes=114.4,
        licence="Apache-2.0",
        purpose="what looks alike",
        data="ImageNet-12k, then ImageNet-1k",
        pooling="mean of the last maps",
    ),
    Known(
        name="resnet50",
        title="ResNet-50",
        repository="Qdrant/resnet50-onnx",
        revision=None,
        network="model.onnx",
        sha256=None,
        layout="fastembed",
        dimension=2048,
        size=224,
        megabytes=94,
        licence="Apache-2.0",
        purpose="what looks alike",
        data="ImageNet-1k",
        pooling="mean of the last maps",
    ),
    Known(
        name="vgg16",
        title="VGG-16",
        repository="timm/vgg16.tv_in1k",
        revision="b8d8aa2dd860af9233c8c67385a8097fd6c35d3f",
        network="model.safetensors",
        sha256="57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
        layout="timm",
        dimension=512,
        size=224,
        megabytes=553.4,
        licence="BSD-3-Clause",
        purpose="what looks alike",
        data="ImageNet-1k",
        pooling="mean of the last maps",
    ),
    Known(
        name="sscd",
        title="SSCD ResNet-50, disc_mixup",
        repository="facebookresearch/sscd-copy-detection",
        revision=None,
        network=None,
        sha256=None,
        layout=None,
        dimension=512,
        size=320,
        megabytes=98,
        licence="MIT",
        purpose="copies",
        data="the images of DISC 2021, changed in many ways",
        pooling="generalised mean of the last maps, projected",
    ),
)

KNOWN = {each.name: each for each in _ALL}
"""The known public encoders by name."""
