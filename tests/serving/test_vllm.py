"""vLLM gets the same bundle, and its absence is said before anything starts."""

from pathlib import Path

import pytest

from pipelines.adapters import files, release
from pipelines.errors import ArtifactError, MoteurError, ResourceError
from pipelines.params import Serving
from serving import __main__ as main
from serving import vllm
from tests import learning
from tests.serving.live import TOKEN

SETTINGS: Serving = learning.params(serving={"engine": "vllm", "port": 9000, "precision": "bfloat16"}).serving


def test_the_command_line_serves_the_bundle_as_params_say() -> None:
    assert vllm.command("/bin/vllm", Path("b"), SETTINGS, name="tales", context=512) == [
        *("/bin/vllm", "serve", "b", "--served-model-name", "tales", "--host", "127.0.0.1", "--port", "9000"),
        *("--dtype", "bfloat16", "--max-model-len", "512", "--max-num-seqs", "16"),
    ]


def test_the_token_goes_through_the_environment_and_nothing_calls_home() -> None:
    values = vllm.environment({"PATH": "/bin"}, "secret")
    assert values["VLLM_API_KEY"] == "secret"
    assert values["VLLM_NO_USAGE_STATS"] == values["HF_HUB_OFFLINE"] == "1"
    assert values["VLLM_LOGGING_LEVEL"] == "WARNING"
    assert values["PATH"] == "/bin"
    assert "secret" not in " ".join(vllm.command("vllm", Path("b"), SETTINGS, name="x", context=1))


def test_without_vllm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MoteurError, match=r"run `pip install vllm` on a machine with a GPU, or set serving\.engine"):
        vllm.serve(tmp_path, SETTINGS, scratch=tmp_path, token="t")  # noqa: S106


def test_without_a_gpu_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"there is no GPU here: set serving\.engine to moteur"):
        vllm.require_gpu()


def test_eight_bit_weights_are_handed_over_as_plain_ones(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    plain = vllm.prepared(bundles[0], tmp_path)
    assert "quantization_config" not in files.read_json(plain / "config.json")
    kept, exported = release.load_model(bundles[0]).state_dict(), release.load_model(plain).state_dict()
    assert all(exported[name].equal(weight.bfloat16().float()) for name, weight in kept.items())
    assert vllm.prepared(plain, tmp_path / "other") == plain


class Became(Exception):  # noqa: N818  it stands in for a process that is replaced
    """What the process would have become."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A workspace on a machine with vLLM and a GPU."""

    def become(program: str, command: list[str], environment: dict[str, str]) -> None:
        raise Became(program, command, environment)

    monkeypatch.setattr(vllm, "program", lambda: "/bin/vllm")
    monkeypatch.setattr(vllm, "require_gpu", lambda: None)
    monkeypatch.setattr(vllm.os, "execve", become)
    monkeypatch.setenv("MOTEUR_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*arguments: str) -> None:
    """The server with these arguments, as far as it gets."""
    main._serve(SETTINGS, learning.params(), main._parsed([*arguments]))


def test_the_server_becomes_vllm_with_the_verified_bundle(bundles: tuple[Path, Path], became: Path) -> None:
    with pytest.raises(Became) as caught:
        start("--model", str(bundles[0]), "--manifest-sha256", files.sha256(bundles[0] / release.MANIFEST))
    program, command, environment = caught.value.args
    assert program == "/bin/vllm"
    assert command[:3] == ["/bin/vllm", "serve", ".moteur/serving/vllm"]
    assert command[4] == "tiny"
    assert environment["VLLM_API_KEY"] == TOKEN


def test_vllm_reads_a_copy_that_nobody_else_writes(bundles: tuple[Path, Path], became: Path) -> None:
    plain = vllm.prepared(bundles[0], became)
    release.write_manifest(plain, format=1, name="plain", weights="bfloat16")
    with pytest.raises(Became) as caught:
        start("--model", str(plain))
    assert caught.value.args[1][2] == ".moteur/serving/bundle-for-vllm/bundle"
    assert release.verify(Path(caught.value.args[1][2])) == []


def test_another_release_than_the_accepted_one_is_refused_for_vllm_too(
    bundles: tuple[Path, Path], became: Path
) -> None:
    with pytest.raises(ArtifactError, match="but --manifest-sha256 is bbbb"):
        start("--model", str(bundles[0]), "--manifest-sha256", "b" * 64)


def test_a_folder_that_is_no_release_is_named_for_vllm_too(became: Path) -> None:
    with pytest.raises(MoteurError, match=r"nothing is not a release: it has no manifest\.json"):
        start("--model", "nothing")
