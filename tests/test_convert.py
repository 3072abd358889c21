"""State dicts become encoders: names of weights, settings, inputs, and what int8 changes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn

import image_files
import tiny_run
from lookalike.cli.app import run as run_command
from lookalike.encoders import Encoder
from lookalike.errors import AlreadyExistsError, DataError, LookalikeError, MismatchError, NotFoundError, UsageError
from lookalike.learn import convert, networks, recipe, state_dict
from lookalike.learn.convert import ConvertOptions
from lookalike.learn.state_dict import StateDict

# torch and its exporter warn about their own internals, which lookalike cannot change.
pytestmark = [pytest.mark.filterwarnings("default")]

FAST = {"backbone": "fast", "widths": [8, 8, 8], "dimension": 6}
SMALL = {"backbone": "resnet18", "stem": "small"}


def config(settings: Mapping[str, Any]) -> recipe.Network:
    adapter: TypeAdapter[recipe.Network] = TypeAdapter(recipe.Network)
    return adapter.validate_python(settings)


def siamese(settings: Mapping[str, Any], *branches: Any, seed: int = 0) -> networks.Siamese:  # noqa: ANN401 -- names
    torch.manual_seed(seed)
    net = networks.Siamese(config(settings), branches or ("photo",)).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # as after training
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
    return net


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# ---- names of weights


def test_the_names_of_a_siamese_network_give_its_branches() -> None:
    net = siamese(FAST, "photo", "sketch")
    built = state_dict.build(StateDict(tensors(net), "w"), {**FAST, "dimension": 6})
    assert list(built) == ["photo", "sketch"]
    x = noise(3, 3, 16, 16)
    for name, branch in built.items():
        assert torch.equal(branch.eval()(x), net.branch(name)(x))


@pytest.mark.parametrize("neck", [True, False])
def test_the_names_of_one_branch_give_its_head_with_dimension_and_neck(*, neck: bool) -> None:
    branch = siamese(FAST | {"neck": neck}).branch("photo")
    settings = {k: v for k, v in FAST.items() if k != "dimension"}
    built = state_dict.build(StateDict(tensors(branch), "w"), settings)["photo"].eval()
    x = noise(3, 3, 16, 16)
    assert torch.equal(built(x), branch(x))
    with pytest.raises(UsageError, match=r"network.dimension is 6 in w, not 7"):
        state_dict.build(StateDict(tensors(branch), "w"), settings | {"dimension": 7})


def test_a_backbone_gives_its_features_or_those_that_its_last_layer_projects() -> None:
    body = siamese(SMALL).branch("photo").body
    public = tensors(body) | {"fc.weight": noise(5, 512), "fc.bias": noise(5)}
    x = noise(3, 3, 16, 16)
    features = body(x)
    unit = state_dict.build(StateDict(public, "w"), SMALL)["photo"].eval()
    assert torch.allclose(unit(x), nn.functional.normalize(features), atol=1e-6)
    raw = state_dict.build(StateDict(public, "w"), {**SMALL, "unit": False, "dimension": 5})["photo"].eval()
    assert torch.allclose(raw(x), features @ public["fc.weight"].T + public["fc.bias"], atol=1e-5)
    with pytest.raises(MismatchError, match=r"no layers .* 9 numbers of 512; it has fc with 5 outputs"):
        state_dict.build(StateDict(public, "w"), {**SMALL, "dimension": 9})


@pytest.mark.parametrize("prefix", ["", "branches.photo.body."])
def test_the_network_is_found_by_its_weights(prefix: str) -> None:
    body = siamese(SMALL).branch("photo").body
    found = state_dict.find_settings(StateDict({f"{prefix}{k}": v for k, v in tensors(body).items()}, "w"))
    assert found == SMALL
    with pytest.raises(MismatchError, match="--network"):
        state_dict.find_settings(StateDict({"layer": noise(2)}, "w"))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (
            {"backbone": "resnet50"},
            MismatchError,
            r"does not fit .* It fits --network resnet18 -o network\.stem=small\.",
        ),
        ({"backbone": "resnet19"}, UsageError, "'backbone' must be one of"),
        (SMALL | {"unit": "perhaps"}, UsageError, "network.unit"),
        (SMALL | {"colour": "blue"}, UsageError, "network.colour: unknown"),
        (SMALL | {"weights": "imagenet"}, UsageError, "network.weights cannot be given"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], error: type[LookalikeError], words: str
) -> None:
    body = siamese(SMALL).branch("photo").body
    with pytest.raises(error, match=words):
        state_dict.build(StateDict(tensors(body), "w"), settings)


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a pickle.*weights_only=True"):
        state_dict.read(str(tmp_path / "w.pth"))
    with pytest.raises(UsageError, match=r"should be a \.safetensors file"):
        state_dict.read(str(tmp_path / "w.onnx"))
    with pytest.raises(NotFoundError, match="cannot be read"):
        state_dict.read(str(tmp_path / "w.safetensors"))
    with pytest.raises(NotFoundError, match="no run"):
        state_dict.read(str(tmp_path))


# ---- settings and inputs


def test_settings_are_given_as_in_a_recipe_and_a_card() -> None:
    given = ["network.dimension=8", "input.size=64", "input.mean=[0.4, 0.5, 0.6]"]
    assert convert.parse_overrides(given) == ({"dimension": 8}, {"size": 64, "mean": [0.4, 0.5, 0.6]})
    with pytest.raises(UsageError, match=r"write network\.KEY=VALUE or input\.KEY=VALUE"):
        convert.parse_overrides(["size=64"])


def test_options_that_need_images_are_refused_without_them() -> None:
    with pytest.raises(UsageError, match="give --images DIR"):
        ConvertOptions({}, {}, "static")
    with pytest.raises(UsageError, match="give --images PATH"):
        ConvertOptions({}, {}, labelled=True)


@pytest.mark.parametrize(
    ("network", "given", "size", "resize", "mean"),
    [
        ({"backbone": "resnet50"}, {}, 224, 256, 0.485),
        ({"backbone": "convnext_tiny"}, {}, 224, 236, 0.485),
        ({"backbone": "resnet50"}, {"size": 96}, 96, None, 0.485),
        ({"backbone": "efficientnet_lite1"}, {}, 240, None, 127 / 255),
        (SMALL, {"size": 32}, 32, None, 0.5),
    ],
)
def test_the_input_is_that_of_the_networks_imagenet_weights(
    network: dict[str, Any], given: dict[str, Any], size: int, resize: int | None, mean: float
) -> None:
    spec = convert._input(StateDict({}, "w"), network, given)
    assert (spec.size, spec.resize) == (size, resize)
    assert spec.mean[0] == pytest.approx(mean)


def test_an_unknown_input_must_be_given() -> None:
    with pytest.raises(UsageError, match=r"-o input\.size=64"):
        convert._input(StateDict({}, "w"), SMALL, {})
    with pytest.raises(UsageError, match=r"input\.sise: unknown"):
        convert._input(StateDict({}, "w"), SMALL, {"size": 9, "sise": 9})


# ---- artefacts


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(tensors(siamese(FAST)), path)
    return path


def fast(int8: convert.Int8 | None = None, images: Path | None = None, *, labelled: bool = False) -> ConvertOptions:
    return ConvertOptions(FAST, {"size": 16}, int8, images, labelled)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    image_files.write(folder, {f"{label}/{i}.png": 9 * ord(label) + i for label in "abc" for i in range(9)})
    return folder


def test_a_state_dict_becomes_an_encoder_with_the_same_embeddings(weights: Path, tmp_path: Path) -> None:
    result = convert.convert(str(weights), tmp_path / "mine", fast())
    encoder = Encoder.open(tmp_path / "mine")
    assert (encoder.card.name, encoder.card.dimension, result.dimension) == ("mine", 6, 6)
    assert (result.in_int8, result.cosine, result.in_float.top_1) == (None, None, None)
    assert result.in_float.bytes == (tmp_path / "mine" / "photo.onnx").stat().st_size
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    expected = siamese(FAST).branch("photo")(x).detach().numpy()
    assert encoder.embed(pixels) == pytest.approx(expected, abs=1e-2)
    assert 0 < result.difference < 1e-2
    with pytest.raises(AlreadyExistsError, match="new folder"):
        convert.convert(str(weights), tmp_path / "mine", fast())


def test_a_folder_of_a_similar_name_stays(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.new").mkdir()
    (tmp_path / "mine.new/notes.txt").touch()
    convert.convert(str(weights), tmp_path / "mine", fast())
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "mine.new"}
    assert (tmp_path / "mine.new/notes.txt").is_file()


def test_images_too_few_and_weights_of_zeros_are_refused_and_leave_no_folder(weights: Path, tmp_path: Path) -> None:
    image_files.write(tmp_path / "few", {f"{i}.png": i for i in range(6)})
    with pytest.raises(DataError, match="static int8 needs 16"):
        convert.convert(str(weights), tmp_path / "mine", fast("static", tmp_path / "few"))
    with pytest.raises(UsageError, match=r"input.size: must be|larger -o input.size"):
        convert.convert(str(weights), tmp_path / "mine", ConvertOptions(FAST, {"size": 0}))
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


@pytest.mark.slow
@pytest.mark.parametrize("int8", ["dynamic", "static"])
def test_int8_says_its_loss(int8: convert.Int8, weights: Path, labelled: Path, tmp_path: Path) -> None:
    result = convert.convert(str(weights), tmp_path / "mine", fast(int8, labelled, labelled=True))
    assert result.in_int8 is not None
    assert result.cosine is not None
    assert 0.9 < result.cosine < 1
    assert result.images == (27 if int8 == "dynamic" else 14)
    for measured in (result.in_float, result.in_int8):
        assert measured.top_1 is not None
        assert measured.map is not None
        assert 0 < measured.map <= 1
        assert measured.ms > 0
    assert result.in_int8.bytes == (tmp_path / "mine" / "photo.onnx").stat().st_size
    assert json.loads(json.dumps(result.to_dict()))["in_int8"]["bytes"] == result.in_int8.bytes


@pytest.mark.slow
def test_a_run_and_its_checkpoint_are_exported_with_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        tiny_run.skip_export(patch)
        tiny_run.start(tiny_run.write(tmp_path), run)
    result = convert.convert(str(run), tmp_path / "one", ConvertOptions({}, {}))
    card = Encoder.open(tmp_path / "one").card
    assert (result.dimension, card.input.size, card.licence) == (8, 12, "Apache-2.0")
    assert state_dict.read(str(run / "checkpoint.safetensors")).trained is not None
    (tmp_path / "alone.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    with pytest.raises(UsageError, match="Give the folder of the run"):
        state_dict.read(str(tmp_path / "alone.safetensors"))


@pytest.mark.slow
def test_the_command_prints_size_time_and_loss(
    weights: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--network", "fast", "-o", "network.widths=[8, 8, 8]", "-o", "input.size=16", "--int8", "dynamic"]
    arguments = ["export", str(weights), "--to", "mine", *options, "--images", str(labelled), "--labels"]
    monkeypatch.setattr("sys.argv", ["lookalike", *arguments])
    assert run_command() in (0, None)
    out = capfd.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["size", "float", "int8"]
    assert out.splitlines()[0].split() == ["size", "ms", "an", "image", "top-1", "mAP"]
    assert "mean cosine of" in out
    assert (tmp_path / "mine" / "encoder.json").is_file()
