"""Releases: a model folder, eight-bit weights included, with a manifest of every file.

The format is described in docs/release-format.md. `python -m pipelines.adapters.release verify FOLDER` re-hashes a
release; `... export FOLDER TARGET` writes it as a plain bfloat16 folder for loaders that do not read eight-bit weights.
"""

import copy
import re
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines.adapters import files, models, weights
from pipelines.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
METHOD = "compressed-tensors"
FORMAT = "int-quantized"
AGAIN = "`moteur run --from deployment` makes the release again."
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def quantisation_config(*, embeddings: bool, ignored: list[str]) -> dict[str, Any]:
    """What config.json says of eight-bit weights, in the terms of compressed-tensors.

    `dequantize` lets transformers turn them into plain weights while it loads.
    """
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    group = {
        "targets": ["Linear", "Embedding"] if embeddings else ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
        "format": FORMAT,
    }
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "dequantize": True,
        "config_groups": {"group_0": group},
        "ignore": ignored,
    }


def save_quantised(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path, *, embeddings: bool = True
) -> None:
    """Save a float32 model with eight-bit linear layers atomically.

    Args:
        model: The model; not changed.
        tokenizer: Goes into the same folder.
        folder: Where to.
        embeddings: Eight bits for the embeddings too; otherwise they are stored in bfloat16.

    Raises:
        ArtifactError: when a weight is not a finite number.
    """
    import torch
    from safetensors.torch import save_file

    from pipelines.core.learning import quantisation, training

    names = quantisation.matrices(model, embeddings=embeddings)
    try:
        state = quantisation.quantised_state(training.weights_of(model), names, torch.bfloat16)
    except ValueError as error:
        raise ArtifactError(f"{error}: the model cannot be quantised; run the stage that trained it again.") from None
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    with files.replacing(folder) as fresh:
        config.save_pretrained(str(fresh))
        model.generation_config.save_pretrained(str(fresh))
        tokenizer.save_pretrained(str(fresh))
        written = files.read_json(fresh / "config.json")
        ignored = ["lm_head"] if config.tie_word_embeddings else []
        written["quantization_config"] = quantisation_config(embeddings=embeddings, ignored=ignored)
        files.write_json(fresh / "config.json", dict(sorted(written.items())))
        save_file(state, str(fresh / WEIGHTS), metadata={"format": "pt"})


def load(folder: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a release, or any model folder, in float32 and evaluation mode, with its tokenizer.

    Raises:
        ArtifactError: for unsafe files, weights that are missing or do not fit, another quantisation than ours.
    """
    return load_model(folder), models.load_tokenizer(folder)


def load_model(folder: Path) -> "PreTrainedModel":
    """The model of `load`, without its tokenizer."""
    models.refuse_unsafe(folder)
    quantised = files.read_json(folder / "config.json").get("quantization_config")
    if quantised is None:
        return models.load_causal(folder)
    if (quantised.get("quant_method"), quantised.get("format")) != (METHOD, FORMAT):
        raise ArtifactError(
            f"{folder} is quantised by {quantised.get('quant_method')} ({quantised.get('format')}): only {METHOD}"
            f" ({FORMAT}) is read here; load it with transformers and save it again as plain weights."
        )
    return _load_quantised(folder)


def _load_quantised(folder: Path) -> "PreTrainedModel":
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig

    from pipelines.core.learning import quantisation

    try:
        state = quantisation.dequantised_state(_stored(folder))
    except ValueError as error:
        raise ArtifactError(f"{folder / WEIGHTS}: {error}. The folder is torn; make it again.") from None
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    del config.quantization_config
    model, info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
        None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise ArtifactError(f"{folder / WEIGHTS} has {kind.replace('_', ' ')} {sorted(info[kind])}: make it again.")
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    loaded: PreTrainedModel = model.eval()
    return loaded


def _stored(folder: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder / WEIGHTS} cannot be read ({error}): make it again.") from None
    return stored


def weight_bytes(folder: Path) -> int:
    """Bytes of the safetensors files of a model folder."""
    return sum(file.stat().st_size for file in sorted(folder.glob("*.safetensors")))


def export(folder: Path, target: Path) -> None:
    """Write a release as a plain bfloat16 model folder, which every loader of Hugging Face folders reads."""
    import torch

    model, tokenizer = load(folder)
    models.save(model.to(torch.bfloat16), tokenizer, target)


def write_manifest(folder: Path, **facts: Any) -> None:
    """Write manifest.json: `facts`, then size and sha256 of every other file below `folder`, sorted by name."""
    entries = {
        name: {"bytes": path.stat().st_size, "sha256": files.sha256(path)} for name, path in _files(folder).items()
    }
    files.write_json(folder / MANIFEST, {**facts, "files": entries})


def _files(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    return {name: found[name] for name in sorted(found) if name != MANIFEST}


def require_sound(
    folder: Path, manifest_sha256: str | None = None, *, what: str | None = None, remedy: str = AGAIN
) -> str:
    """Hold a release to everything that must be true before it is registered, loaded or asked; nothing is loaded here.

    What costs little comes first: the manifest, its names, what could run code; then every file is hashed, and the
    headers of the weights are held against their files.

    Args:
        folder: The release.
        manifest_sha256: Of the manifest that was accepted; None: any.
        what: How the release is called where it is damaged; the folder without it.
        remedy: What to do where it is damaged, a sentence.

    Returns:
        The sha256 of the manifest, which names the release.

    Raises:
        ArtifactError: when the manifest is missing, not ours or not the accepted one, or names a path that could lead
            elsewhere; when a file differs from it, is missing or is not in it; when a file could run code; when weights
            are missing, or no sound safetensors file.
    """
    manifest = folder / MANIFEST
    found = files.sha256(manifest) if manifest.is_file() else "missing"
    if manifest_sha256 is not None and found != manifest_sha256:
        raise ArtifactError(
            f"{manifest} has the sha256 {found}, but {manifest_sha256} was accepted: the bundle was changed afterwards;"
            " make the release again, or promote the new one."
        )
    models.refuse_unsafe(folder)
    listed(manifest)
    if differences := verify(folder):
        raise ArtifactError(f"{what or folder} is damaged: {'; '.join(differences)}. {remedy}")
    weights.check_folder(folder)
    return found


def listed(manifest: Path) -> list[str]:
    """The names in a manifest, each a plain path below the folder.

    Raises:
        ArtifactError: for one that could lead elsewhere, or a manifest that is none.
    """
    entries = files.read_json(manifest)
    names = entries.get("files") if isinstance(entries, dict) else None
    if not isinstance(names, dict) or not names:
        raise ArtifactError(f"{manifest} lists no files: it is not the manifest of a release.")
    for name in names:
        if not is_plain(name):
            raise ArtifactError(f"{manifest} names {name!r}, which is no plain path inside a release: refused.")
    return list(names)


def is_plain(name: str) -> bool:
    """True for a relative path of plain names: no `..`, no hidden or absolute one, nothing that a URL would read."""
    parts = name.split("/")
    return len(name) <= 255 and all(PART.fullmatch(part) for part in parts) and str(PurePosixPath(name)) == name


def verify(folder: Path) -> list[str]:
    """Re-hash a release; return how it differs from its manifest, a sentence each, nothing when it does not.

    Raises:
        ArtifactError: when the manifest is missing or not ours.
    """
    expected = files.read_json(folder / MANIFEST)
    if not _is_manifest(expected):
        raise ArtifactError(f"{folder / MANIFEST} lists no files: run deployment again.")
    found = _files(folder)
    differences = [f"{name} is missing" for name in expected["files"] if name not in found]
    for name, path in found.items():
        entry = expected["files"].get(name)
        if entry is None:
            differences.append(f"{name} is not in the manifest")
        elif path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            differences.append(f"{name} is a link that leaves the folder")
        elif not path.exists():
            differences.append(f"{name} is a link to nothing")
        elif path.stat().st_size != entry["bytes"]:
            differences.append(f"{name} has {path.stat().st_size:,} bytes, not {entry['bytes']:,}")
        elif files.sha256(path) != entry["sha256"]:
            differences.append(f"{name} has another sha256 than the manifest says")
    return sorted(differences)


def _is_manifest(value: Any) -> bool:
    entries = value.get("files") if isinstance(value, dict) else None
    return isinstance(entries, dict) and all(
        isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys() for entry in entries.values()
    )


def main(arguments: list[str]) -> int:
    """Run `verify FOLDER` or `export FOLDER TARGET`; return the exit code."""
    match arguments:
        case ["verify", folder]:
            differences = verify(Path(folder))
            print("\n".join(differences) or f"{folder}: every file is as its manifest says")  # noqa: T201  a command
            return 1 if differences else 0
        case ["export", folder, target]:
            export(Path(folder), Path(target))
            return 0
        case _:
            print("usage: release verify FOLDER | release export FOLDER TARGET", file=sys.stderr)  # noqa: T201
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
