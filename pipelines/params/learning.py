"""The base model and the instruction model: their shape, and how they are trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines import budget as budgets
from pipelines.params.section import Positive, Rate, Section, Share, Weight


class Model(Section):
    """The model that is trained from scratch."""

    architecture: Literal["llama", "rnn", "lstm", "mlp"]
    """llama: attention (Touvron et al. 2023), on which alone the later stages build. The others are baselines without
    attention for `pretraining.objective: causal`: Elman's network, an LSTM, a network over the last few tokens (Bengio
    et al. 2003). They are as wide as the size of the Llama with these values allows; what is about attention does not
    concern them."""
    hidden_size: Positive
    """Width."""
    num_layers: Positive
    """Depth."""
    num_heads: Positive
    """Attention heads; must divide hidden_size."""
    intermediate_size: Positive
    """Width of the gated feed-forward layer."""
    context: Positive
    """Longest sequence in tokens."""
    tie_embeddings: bool
    """Input and output embeddings share their weights."""
    rope_theta: Annotated[float, Field(gt=1)]
    """Base of the rotary positions (Su et al. 2021, arXiv:2104.09864): the slowest pair of a head turns once in about
    six times as many tokens."""
    attention_bias: bool
    """Add trained biases to queries, keys, values and outputs of attention: a head can then look at a fixed distance
    whatever the tokens are."""
    look_back: list[Positive]
    """Heads of the first layer, one for each distance, that begin by looking at the token this many places before: with
    what they write a later layer finds what stood beside a word, which is how a model copies (Olsson et al. 2022,
    arXiv:2209.11895). Needs attention_bias."""
    initializer_range: Rate
    """Standard deviation of the first weights. At 0.02, the custom of large models, a model of this width begins with
    attention that hardly tells its tokens apart, and learns to copy several times later."""
    value_output_correlation: Annotated[float, Field(ge=0, le=1)]
    """Correlation of the first output weights of attention with its value weights; 0: none, as is the custom. With it
    a head begins by copying what it sees."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"model.hidden_size is {self.hidden_size}, which {self.num_heads} heads do not divide into even"
                " parts: change model.num_heads or model.hidden_size in params.yaml"
            )
        return self

    @model_validator(mode="after")
    def _heads_can_look_back(self) -> Self:
        if len(self.look_back) > self.num_heads:
            raise ValueError(
                f"model.look_back asks {len(self.look_back)} heads, but a layer has {self.num_heads}: shorten it, or"
                " raise model.num_heads, in params.yaml"
            )
        if self.look_back and not self.attention_bias:
            raise ValueError(
                f"model.look_back is {self.look_back}, but without biases no head can look at a place: set"
                " model.attention_bias to true, or model.look_back to [], in params.yaml"
            )
        return self


class Pretraining(Section):
    """The base model."""

    objective: Literal["causal", "masked", "span_corruption"]
    """causal: say the next token, on which alone the later stages build. masked: say the tokens that are hidden, by an
    encoder (Devlin et al. 2018). span_corruption: say the spans that are hidden, by an encoder and a decoder (Raffel et
    al. 2020). Both take their shape from the section `model`."""
    init: str | None
    """None: from scratch (section `model`). Otherwise a folder or hub id of a causal language model. DVC sees another
    name, and not another content of the folder: then `moteur run --from pretraining`."""
    context: Positive
    """Length of a packed training sequence in tokens."""
    batch_size: Positive
    """Sequences a step."""
    microbatch_size: Positive | None
    """Sequences whose gradient is computed at once, for memory: gradients are added up over the batch. None: all."""
    processes: Positive
    """Processes on this machine that share each batch; `threads` are those of each. A group that torchrun has made,
    here or on several machines, is joined instead."""
    max_tokens: Positive
    """Training ends after this many tokens, where `budget` is null; at least those of one step."""
    budget: str | None
    """Instead of `max_tokens`: "20 tokens/parameter" (of the model as it is), "1e15 FLOPs" (6 for each parameter and
    token), or a time: "10 minutes". A time is counted at a speed that stands beside it, "10 minutes at 125 GFLOP/s",
    so that it means the same in every run: `moteur plan --apply tokens` measures this machine's and writes it."""
    optimizer: Literal["adamw", "muon"]
    """muon: matrices by Muon, the rest by AdamW; reaches a given loss in fewer tokens."""
    learning_rate: Rate
    """Peak of the schedule."""
    warmup_share: Share
    """Share of the steps with rising learning rate."""
    final_learning_rate_share: Share
    """The cosine ends at this share of the peak."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Of matrices; vectors are not decayed."""
    gradient_clip: Rate
    """Largest norm of the gradient."""
    precision: Literal["auto", "float32", "bfloat16"]
    """auto: bfloat16 where the hardware computes in it."""
    compile: bool
    """torch.compile: pays beyond about three minutes of training."""
    evaluate_every: Positive
    """Steps between validations."""
    validation_tokens: Positive
    """The first tokens of the validation split, which are read while training; the final figure is of all."""
    patience: Positive
    """Validations without improvement until training stops early."""
    checkpoint_every: Positive
    """Steps between checkpoints."""

    @field_validator("budget", mode="before")
    @classmethod
    def _is_a_budget(cls, value: object) -> object:
        if value is not None:
            budgets.parse(value)
        return value

    @model_validator(mode="after")
    def _something_is_shown_and_something_hidden(self) -> Self:
        if self.objective != "causal" and self.context < 2:
            raise ValueError(
                f"pretraining.context is {self.context}, but pretraining.objective {self.objective} hides a part of"
                " each sequence and shows the rest: raise the first to 2 at least in params.yaml"
            )
        return self

    @model_validator(mode="after")
    def _each_process_has_a_row(self) -> Self:
        if self.processes > self.batch_size:
            raise ValueError(
                f"pretraining.processes is {self.processes} but pretraining.batch_size is {self.batch_size}, so that"
                " some would have nothing to do: lower the first or raise the second in params.yaml"
            )
        return self


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Positive
    """Rank r of the update."""
    alpha: Positive
    """The update is scaled by alpha / r."""
    dropout: Share
    """Dropout on the adapter's input."""


class FinetuningLora(Lora):
    """Low-rank adapters on a base model, which has never read the tokens that tell the roles."""

    train_embeddings: bool
    """True: the embeddings are trained whole. False: only the rows of those tokens are, so that less is learnt and,
    without replay, less than half as much forgotten."""
    merge_scale: Annotated[float, Field(gt=0, le=1)]
    """Weight of the update when it is merged into the base model; 1: all of it. Somewhat less unlearns little and
    forgets much less (WiSE-FT: Wortsman et al. 2021, arXiv:2109.01903)."""


class PromptTuning(Section):
    """A soft prompt (Lester et al. 2021, arXiv:2104.08691)."""

    virtual_tokens: Positive
    """Trained tokens with which every conversation begins; they take this many places of the model's context."""


class Finetuning(Section):
    """The instruction model."""

    method: Literal["full", "lora", "prompt_tuning", "bitfit"]
    """What is trained. full: all weights. lora: adapters and embeddings. prompt_tuning: a soft prompt. bitfit:
    biases, where the model has any (model.attention_bias), and the gains of norms. The last two also train the
    embeddings of the three tokens that tell the roles, which a base model has never read."""
    lora: FinetuningLora
    """Settings of the method `lora`."""
    prompt_tuning: PromptTuning
    """Settings of the method `prompt_tuning`."""
    epochs: Rate
    """Passes over the mixture."""
    batch_size: Positive
    """Conversations a step."""
    optimizer: Literal["adamw", "muon"]
    """As in section pretraining."""
    learning_rate: Rate
    """Peak of the schedule."""
    warmup_share: Share
    """Share of the steps with rising learning rate."""
    max_length: Positive
    """Longest conversation in tokens; longer ones are left out and counted."""
    max_turns: Positive
    """Instructions about one text are joined into conversations of at most this many turns."""
    turn_length_exponent: Annotated[float, Field(ge=0, le=1)]
    """A token of a turn with n tokens weighs n to the power of minus this in the loss. 0 is the mean over tokens, where
    stories drown answers of one word; 1 the mean over turns; 0.5 between."""
    task_weights: dict[str, Weight]
    """Task -> share of its records kept (above 1: repeated; 0: the task is left out). A task that is not named has
    weight 1."""
    replay_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the training tokens that are pretraining text, against forgetting."""
    checkpoint_every: Positive
    """Steps between checkpoints."""
    evaluation_records: Positive
    """Held-out instructions that are answered after training (evenly drawn)."""
    max_new_tokens: Positive
    """Longest of those answers in tokens."""

    @model_validator(mode="after")
    def _muon_has_matrices(self) -> Self:
        if self.method in ("prompt_tuning", "bitfit") and self.optimizer == "muon":
            raise ValueError(
                f"finetuning.optimizer is muon, which is for matrices, but finetuning.method {self.method} trains"
                " vectors: set finetuning.optimizer to adamw in params.yaml"
            )
        return self
