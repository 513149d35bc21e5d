"""Models on disk: standard Hugging Face folders, safetensors only, never code from the folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters import files
from pipelines.errors import ArtifactError, DataError, HeadMissing, ParamsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORBIDDEN = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"}
"""Endings of files that can run code when loaded."""
BASES_ALONE = {
    "bert": "an encoder that fills masks",
    "t5": "an encoder and decoder that fill spans",
    "moteur_baseline": "a baseline without attention",
}
"""Types of model that pretraining makes and on which nothing is built, and what they are."""


def refuse_unsafe(folder: Path) -> None:
    """Refuse a model folder that could run code.

    Raises:
        ArtifactError: for pickled weights, Python files or an `auto_map` in config.json.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a model folder. Run `moteur run` (or `dvc repro`) to make it.")
    for file in sorted(folder.rglob("*")):
        if file.suffix in FORBIDDEN:
            raise ArtifactError(f"{file} can run code when it is loaded: convert the model to safetensors.")
    config = folder / "config.json"
    if config.exists() and "auto_map" in files.read_json(config):
        raise ArtifactError(f"{config} names code of its own (auto_map): only models of transformers are loaded.")


def load_tokenizer(folder: Path | str) -> "PreTrainedTokenizerBase":
    """Load a tokenizer from a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)


def initial(name: str, key: str) -> Path:
    """The folder of the model that the params key `key` names: a folder, or a hub id that is fetched.

    Raises:
        DataError: when it is neither.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"{key} is {name!r}: neither a folder here nor a model that the hub gives ({type(error).__name__}:"
            f" {str(error).splitlines()[0]}). Correct {key} in params.yaml, or set it to null."
        ) from None


def initial_tokenizer(name: str, key: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of the model that the params key `key` names.

    Raises:
        DataError: when there is none, or it has no end token.
    """
    folder = initial(name, key)
    try:
        tokenizer = load_tokenizer(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{key} is {name!r}, which holds no tokenizer: {str(error).splitlines()[0]}") from None
    if tokenizer.eos_token is None or not tokenizer.is_fast:
        raise DataError(f"{key} is {name!r}, whose tokenizer has no end token or is not a fast one: choose another.")
    return tokenizer


def load_causal(folder: Path, **options: Any) -> "PreTrainedModel":
    """Load a causal language model in float32 and evaluation mode, checked against its tokenizer.

    Raises:
        ArtifactError: for unsafe files, a tokenizer with more entries than the model has embeddings, or a base model on
            which nothing is built.
    """
    from transformers import AutoModelForCausalLM

    refuse_unsafe(folder)
    if (found := kind(folder)) in BASES_ALONE:
        raise ArtifactError(
            f"{folder} is {BASES_ALONE[found]}, and nothing is built on such a base model: set pretraining.objective to"
            " causal and model.architecture to llama in params.yaml, and run pretraining again."
        )
    return load_as(AutoModelForCausalLM, folder, **options)


def kind(folder: Path) -> str:
    """The type of the model in a folder, as its config.json says; empty where it says nothing."""
    config = folder / "config.json"
    return str(files.read_json(config).get("model_type", "")) if config.exists() else ""


def load_as(made_as: Any, folder: Path, **options: Any) -> "PreTrainedModel":
    """Load a model by a class of transformers, or one made like them, with the checks of `load_causal`."""
    model: PreTrainedModel = _load(made_as, folder, options)
    return model


ENDLESS = 2048
"""Tokens that a model reads whose positions have no end (BLOOM, MPT), unless `pretraining.context` is longer."""


def load_initial(name: str, tokenizer: "PreTrainedTokenizerBase", context: int) -> "PreTrainedModel":
    """The model that pretraining.init names, with embeddings for the tokens that `tokenizer` adds to its own.

    Raises:
        DataError: when there is no such model.
        ParamsError: when `tokenizer` is not this model's, or `context` is longer than it reads.
    """
    theirs = initial_tokenizer(name, "pretraining.init").get_vocab()
    ours = tokenizer.get_vocab()
    strangers = [token for token, number in theirs.items() if ours.get(token) != number]
    if strangers:
        raise ParamsError(
            f"pretraining.init is {name!r}, but {len(strangers):,} of its {len(theirs):,} tokens have another id in our"
            f" tokenizer: set tokenization.init to {name!r} too in params.yaml."
        )
    model = load_causal(initial(name, "pretraining.init"))
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    if limit is None:  # its positions have no end, but the stages after this one want to know what fits
        model.config.max_position_embeddings = limit = max(context, ENDLESS)
    if context > limit:
        raise ParamsError(
            f"pretraining.context is {context} but {name} reads at most {limit} tokens: lower pretraining.context in"
            " params.yaml."
        )
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer))
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model


def load_reward(folder: Path, **options: Any) -> "PreTrainedModel":
    """Load a sequence classifier with one output: the reward. Checks as in `load_causal`.

    Raises:
        ArtifactError: also when a weight, as of the reward head, is missing, or the head has several outputs.
    """
    from transformers import AutoModelForSequenceClassification

    model, info = _load(AutoModelForSequenceClassification, folder, {**options, "output_loading_info": True})
    if info["missing_keys"]:
        raise HeadMissing(f"{folder} lacks weights {sorted(info['missing_keys'])}: it is not a trained reward model.")
    if model.config.num_labels != 1:
        raise ArtifactError(
            f"{folder} tells {model.config.num_labels} classes apart, but a reward is one number: no reward model"
            " (num_labels in its config.json must be 1)."
        )
    return model


def with_reward_head(folder: Path) -> "PreTrainedModel":
    """Load a causal language model as a sequence classifier with one output, whose head is new and random."""
    from transformers import AutoModelForSequenceClassification

    model: PreTrainedModel = _load(AutoModelForSequenceClassification, folder, {"num_labels": 1})
    return model


def _load(kind: Any, folder: Path, options: dict[str, Any]) -> Any:
    import torch

    refuse_unsafe(folder)
    loaded = kind.from_pretrained(
        str(folder), trust_remote_code=False, use_safetensors=True, **{"dtype": torch.float32, **options}
    )
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    entries = model.get_input_embeddings().weight.shape[0]
    if (folder / "tokenizer.json").exists() and (size := len(load_tokenizer(folder))) > entries:
        raise ArtifactError(
            f"{folder}: the tokenizer has {size} entries but the model {entries} embeddings:"
            " they do not belong together; run tokenization and pretraining again."
        )
    model.eval()
    return loaded


def save(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Save a model with its tokenizer atomically, as safetensors."""
    from transformers.utils import logging

    with files.replacing(folder) as fresh:
        logging.disable_progress_bar()
        model.save_pretrained(str(fresh))
        tokenizer.save_pretrained(str(fresh))
