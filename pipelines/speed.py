"""How fast this machine trains: some steps of pretraining, as params.yaml has it, on random tokens.

    python -m pipelines.speed ['{"hidden_size": 64, "num_layers": 2}']

prints JSON; the argument changes section model. Nothing is kept. It is no stage: it makes no artifact.
"""

import json
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipelines import params as schema
from pipelines import stage
from pipelines.adapters import device, models, quiet, vocabulary
from pipelines.artifacts import Artifact
from pipelines.core.judging import budgets
from pipelines.core.learning import attention, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.batches import Packed
from pipelines.errors import MoteurError
from pipelines.params import Params

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WARM_UP, STEPS, SECONDS = 3, 8, 3.0
"""Steps that are not counted; then at least this many, for at least this long."""
DOCUMENT = 200
"""Tokens of a document; packed ones are kept apart, which costs time."""


def main(params: Params) -> dict[str, float]:
    """Parameters, tokens a second, FLOPs a second (6 for each parameter and token); the median of the steps."""
    settings, target = params.pretraining, device.prepare(params.seed, params.threads)
    model, precision = _model(params, target), device.precision(settings.precision)
    step_tokens = settings.batch_size * settings.context
    ids = np.random.default_rng(params.seed).integers(1, model.config.vocab_size, size=8 * step_tokens + 1)
    ids[::DOCUMENT] = 0
    steps = training.train(
        partial(
            training.next_token_loss,
            _compiled(model) if settings.compile else model,
            device=target,
            precision=precision,
        ),
        Packed(ids.astype(np.uint32), settings.context, settings.batch_size, params.seed, separator=0),
        optimizers.build(settings.optimizer, model, weight_decay=settings.weight_decay, precision=precision),
        schedule=lambda _step: 1e-6,
        steps=sys.maxsize,
        gradient_clip=settings.gradient_clip,
    )
    took: list[float] = []
    before = time.perf_counter()
    for step in steps:
        now = time.perf_counter()
        if step.step > WARM_UP:
            took.append(now - before)
        if len(took) >= STEPS and sum(took) >= SECONDS:
            break
        before = now
    parameters = int(model.num_parameters())
    speed = step_tokens / statistics.median(took)
    return {
        "parameters": parameters,
        "tokens_per_second": speed,
        "flops_per_second": budgets.training_flops(parameters, speed),
    }


def _model(params: Params, target: "torch.device") -> "PreTrainedModel":
    settings = params.pretraining
    if settings.init is not None:
        tokenizer = models.load_tokenizer(Artifact.TOKENIZER.path)
        model = models.load_initial(settings.init, tokenizer, settings.context)
    else:
        model = llama(params.model, vocab_size=vocabulary.size(params), eos=0, pad=0)
    model = model.to(target)
    attention.use_fastest(model, device=target, context=settings.context)
    return model.train()


def _compiled(model: "PreTrainedModel") -> "PreTrainedModel":
    import torch

    return torch.compile(model)


if __name__ == "__main__":
    quiet.settle()
    try:
        values = stage.load_params().model_dump()
        values["model"] |= json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
        print(json.dumps(main(schema.parse(values))))  # noqa: T201  the caller reads this
    except MoteurError as error:
        print(error, file=sys.stderr)  # noqa: T201  the user reads this
        sys.exit(error.exit_code)
