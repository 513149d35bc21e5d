"""The schema of params.yaml: frozen, strict, one class per section. No I/O here; `stage.load_params` reads."""

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipelines import budget as budgets
from pipelines.artifacts import Artifact
from pipelines.errors import ParamsError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of params.yaml: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Source(Section):
    """Where one set of records comes from."""

    uri: str
    """`tales://...`, a path or glob below `ingestion.root`, `hf://owner/name`, or any fsspec URL."""
    columns: dict[str, str] = {}
    """Field of our data contract -> column of the source, where the names differ."""
    constants: dict[str, str] = {}
    """Field of our data contract -> value for every record (a task name, a prompt)."""
    separator: str | None = None
    """Text files: the line that parts documents. None: a blank line parts them."""
    limit: Positive | None = None
    """Read at most this many records."""

    @model_validator(mode="after")
    def _stays_below_root(self) -> Self:
        path = PurePosixPath(self.uri)
        if "://" not in self.uri and (not self.uri or path.is_absolute() or ".." in path.parts):
            raise ValueError(
                f"the source {self.uri!r} is not below ingestion.root, so DVC would not see its changes: give a path"
                " relative to ingestion.root, or set ingestion.root to the folder that holds it"
            )
        return self


class Splits(Section):
    """Sources by split. An empty `valid` or `test` is drawn from `train` by hash, `held_out_share` each."""

    train: list[Source] = []
    valid: list[Source] = []
    test: list[Source] = []


class Ingestion(Section):
    """What is read."""

    root: str
    """Folder of local sources; a DVC dependency, so that changed data retrain."""
    corpus: Splits
    """Pretraining text: records {id, text, source}."""
    instructions: Splits
    """Instruction data: records {id, task, context, prompt, completion, source}."""
    preferences: Splits = Splits()
    """Preference pairs made elsewhere: records {id, prompt, chosen, rejected, source}."""
    held_out_share: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of `train` that becomes a split without sources of its own."""
    max_bad_line_share: Share
    """The stage fails when a greater share of a source's lines cannot be read."""
    max_line_bytes: Positive
    """A longer line, or document of a text file, is quarantined unread (bytes)."""


class Expectation(Section):
    """One Great Expectations rule over the descriptor table of one kind of record."""

    records: Literal["corpus", "instructions", "preferences"]
    """Which table."""
    name: str
    """The expectation's class name, for instance ExpectColumnValuesToBeBetween."""
    arguments: dict[str, Any]
    """Its arguments, `mostly` included."""


class DataValidation(Section):
    """The contract that data must meet."""

    min_characters: Positive
    """Shorter documents are rejected."""
    max_characters: Positive
    """Longer documents are rejected."""
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)]
    """Estimated Jaccard similarity of word 5-grams from which a document is a near duplicate."""
    max_control_character_share: Share
    """Documents with a greater share of control characters are rejected."""
    max_damaged_character_share: Share
    """Documents with a greater share of characters that show a wrong decoding (U+FFFD, "Ã©") are rejected."""
    personal_data: Literal["reject", "redact", "report"]
    """What happens to documents with an e-mail address, phone number or IBAN."""
    contamination_words: Positive
    """A training document that shares a run of this many words with evaluation data is rejected."""
    max_rejected_share: Share
    """The stage fails when a greater share of any kind of record is rejected."""
    expectations: list[Expectation]
    """The contract over the accepted records."""


class Tokenization(Section):
    """The tokenizer and the token shards."""

    init: str | None
    """None: train one. Otherwise a folder or hub id whose tokenizer is taken over (and given our chat template)."""
    vocab_size: Positive
    """Entries, special tokens and the 256 bytes included."""
    max_training_bytes: Positive
    """The tokenizer is trained on at most this many bytes of text (evenly drawn)."""
    shard_tokens: Positive
    """Tokens in one shard file."""
    audit_samples: Positive
    """Records whose round trip and loss mask are checked."""

    @model_validator(mode="after")
    def _holds_all_bytes(self) -> Self:
        if self.vocab_size < 256 + 8:
            raise ValueError(
                f"tokenization.vocab_size is {self.vocab_size}, but the 256 bytes and 8 special tokens need 264:"
                " raise tokenization.vocab_size in params.yaml"
            )
        return self


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
    """Heads of the first layer, one for each distance, that begin by looking at the token so many places before: with
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
    """None: from scratch (section `model`). Otherwise a folder or hub id of a causal language model."""
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
    """Training ends after this many tokens, where `budget` is null."""
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
    """Tokens of the validation set used while training (the final figure uses all)."""
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


class PromptTuning(Section):
    """A soft prompt (Lester et al. 2021, arXiv:2104.08691)."""

    virtual_tokens: Positive
    """Trained tokens with which every conversation begins; they take so many places of the model's context."""


class Finetuning(Section):
    """The instruction model."""

    method: Literal["full", "lora", "prompt_tuning", "bitfit"]
    """What is trained. full: all weights. lora: adapters and the embeddings. prompt_tuning: a soft prompt. bitfit:
    biases, where the model has any (model.attention_bias), and the gains of norms. The last two also train the
    embeddings of the three tokens that tell the roles, which a base model has never read."""
    lora: Lora
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


class Endpoint(Section):
    """A server that speaks OpenAI's HTTP API. Nothing is sent anywhere unless one is set and chosen."""

    base_url: str
    """Its address up to `/v1`, without credentials: the route `/chat/completions` is appended."""
    model: str
    """As the server calls it."""
    token_environment: str | None = None
    """Name of the environment variable that holds the token, in capitals; None: no token is sent."""
    timeout_seconds: Rate = 60.0
    """An answer that has not come after this time (seconds) is asked for again."""
    max_requests: Positive = 1000
    """A stage that needs more answers than this ends before it asks for the first; those kept from before count."""
    concurrent: Annotated[int, Field(gt=0, le=64)] = 4
    """Requests under way at once."""

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        if not re.fullmatch(r"https?://[^\s@?#]+", self.base_url):  # the value stays out of the error
            raise ValueError(
                "feedback.constitution.endpoint.base_url must be an http or https address without user, password,"
                " query or fragment, for instance http://127.0.0.1:8000/v1: a token belongs into the environment"
                " variable that token_environment names"
            )
        if self.token_environment is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", self.token_environment):
            raise ValueError(
                "feedback.constitution.endpoint.token_environment must be the name of an environment variable,"
                " capitals, digits and underscores: put the token into the variable, and its name here"
            )
        return self


class Constitution(Section):
    """AI feedback by the principles of constitution.yaml (Bai et al. 2022, arXiv:2212.08073)."""

    share: Share
    """Share of the prompts that the judge ranks instead of simulated annotators; `feedback.overlap_share` of them are
    ranked by both, as is that share of what people ranked, for the agreement. Above 0, prompts without gold facts are
    drawn too, and the judge ranks them all. 0: none of this."""
    judge: Literal["self", "reward_model", "endpoint"]
    """Who compares: the instruction model by the probabilities of its letters, a reward model, or a server."""
    writer: Literal["self", "endpoint"]
    """Who writes critiques and revisions: the instruction model, or the server."""
    principles_per_prompt: Positive
    """Drawn for each prompt: comparisons are averaged over them, a response is revised by one after the other."""
    reward_model: str | None
    """The judge `reward_model`: folder or hub id of a sequence classifier with one output, with its tokenizer. DVC does
    not see changes in it: give another model another name."""
    endpoint: Endpoint | None
    """The server of the judge or the writer `endpoint`."""

    @model_validator(mode="after")
    def _judges_nothing_by_itself(self) -> Self:
        made_later = {PurePosixPath(Artifact.REWARD), PurePosixPath(Artifact.HELD_OUT_REWARD)}
        if self.reward_model is not None and PurePosixPath(self.reward_model) in made_later:
            raise ValueError(
                f"feedback.constitution.reward_model is {self.reward_model!r}, which a later stage makes of what this"
                " judge says, so that each run would judge by another: copy the folder, to models/judge for instance,"
                " and name that"
            )
        return self

    @model_validator(mode="after")
    def _has_what_it_asks(self) -> Self:
        if self.judge == "reward_model" and self.reward_model is None:
            raise ValueError(
                "feedback.constitution.judge is reward_model but feedback.constitution.reward_model is null: set the"
                " second to a folder or hub id"
            )
        if "endpoint" in (self.judge, self.writer) and self.endpoint is None:
            raise ValueError(
                f"feedback.constitution.{'judge' if self.judge == 'endpoint' else 'writer'} is endpoint but"
                " feedback.constitution.endpoint is null: set its base_url and model"
            )
        return self


class Feedback(Section):
    """Preferences."""

    num_prompts: Positive
    """Prompts for which responses are sampled (drawn from the instruction data)."""
    responses_per_prompt: Annotated[int, Field(ge=2)]
    """K responses a prompt."""
    tasks: list[str]
    """Tasks whose prompts are used."""
    temperature: Rate
    """Sampling temperature."""
    max_new_tokens: Positive
    """Longest response in tokens."""
    annotators: Positive
    """Simulated annotators; used for prompts that carry gold facts."""
    annotator_noise: Annotated[float, Field(ge=0)]
    """Mean standard deviation of an annotator's error, in units of the gold score."""
    tie_margin: Annotated[float, Field(ge=0)]
    """Perceived differences below this are ties."""
    overlap_share: Share
    """Share of the prompts that two annotators rank, for the agreement."""
    held_out_annotators: list[str]
    """Names of annotators, simulated ones or people, whose rankings train no reward model, to see what a reward model
    makes of somebody it has not learnt from: such simulated ones rank held-out prompts only, and what such people say
    of other prompts is left out."""
    held_out_share: Share
    """Share of the prompts whose pairs are held out."""
    max_bad_line_share: Share
    """The stage fails when a greater share of the lines written by people cannot be used."""
    constitution: Constitution
    """Feedback by a model instead of people."""

    @model_validator(mode="after")
    def _somebody_is_learnt_from(self) -> Self:
        if {f"annotator-{number + 1}" for number in range(self.annotators)} <= set(self.held_out_annotators):
            raise ValueError(
                f"feedback.held_out_annotators names all {self.annotators} simulated annotators, so that nobody is left"
                " to learn from: take one out, or raise feedback.annotators"
            )
        return self


class RewardVerdict(Section):
    """What the reward model must be; a missing or undefined figure always fails."""

    min_accuracy: Share
    """Lower end of the 95 % interval of its accuracy on held-out pairs; 0.5 is chance."""
    min_gain_over_length: Annotated[float, Field(ge=-1, le=1)]
    """Its accuracy less that of preferring the longer response."""
    max_calibration_error: Share
    """Largest expected calibration error."""


class RewardModeling(Section):
    """The reward model."""

    epochs: Rate
    """Passes over the training pairs."""
    batch_size: Positive
    """Rankings a step, with all their pairs: each response is read once."""
    learning_rate: Rate
    """Peak of the schedule."""
    max_length: Positive
    """Longest prompt with response in tokens; pairs with a longer one are left out and counted."""
    warmup_share: Share
    """Share of the steps with rising learning rate; a cosine to zero follows."""
    checkpoint_every: Positive
    """Steps between checkpoints."""
    similar_length_ratio: Annotated[float, Field(ge=1)]
    """Two responses are of similar length when the longer has at most this many times the shorter's tokens."""
    held_out_model_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training prompts, chosen by hash, whose pairs train a second reward model instead. It never teaches
    the policy: it judges what the first one made of it (Gao et al. 2022, arXiv:2210.10760)."""
    gate: RewardVerdict
    """The stage ends with an error, and the lifecycle before PPO, when the first model is not this good."""


class RewardFunction(Section):
    """A Python function of yours that scores responses.

    It is imported and called in the process that trains: it runs your code, with all that this process may do.
    """

    function: Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
    """`package.module:name`, below the folder `reward_functions`. It takes a list of prompts and a list of responses,
    all text, and returns a number for each; the same for the same text, or a resumed run is not the run it was."""
    weight: Annotated[float, Field(allow_inf_nan=False)]
    """By which its rewards are multiplied."""

    @model_validator(mode="after")
    def _stays_where_changes_are_seen(self) -> Self:
        if not self.function.startswith("reward_functions."):
            raise ValueError(
                f"ppo.reward_functions names {self.function!r}, which is not below reward_functions, so DVC would not"
                " see its changes: move the module into that folder and write reward_functions.module:name"
            )
        return self


class Ppo(Section):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

    iterations: Positive
    """Rollout and update, this many times."""
    prompts_per_iteration: Positive
    """Prompts a rollout."""
    epochs: Positive
    """Passes over one rollout."""
    method: Literal["full", "lora"]
    """Which weights are trained. With `lora` the policy without its adapter is the instruction model that divergence is
    measured from, so that its weights are held once, and checkpoints hold the adapters alone."""
    lora: Lora
    """Settings of the method `lora`; without dropout."""
    minibatch_size: Positive
    """Responses an optimiser step."""
    microbatch_size: Positive | None
    """Responses that are in memory at once: gradients are added up over a minibatch. None: the whole minibatch."""
    learning_rate: Rate
    """Of the policy."""
    value_learning_rate: Rate
    """Of the value model."""
    clip: Rate
    """Clipping range of the probability ratio."""
    value_clip: Rate
    """Clipping range of the value estimate."""
    gradient_clip: Rate
    """Largest norm of the gradient."""
    ptx_coefficient: Annotated[float, Field(ge=0)]
    """Weight of the loss on pretraining text, nats a token, in every update of the policy (Ouyang et al. 2022,
    arXiv:2203.02155, equation 2), against forgetting. 0: no text is read."""
    kl_coefficient: Annotated[float, Field(ge=0)]
    """Weight of the per-token KL penalty against the SFT model, in whitened rewards per nat."""
    kl_target: Rate | None
    """Nats a response that the weight is steered to, from `kl_coefficient` on (Ziegler et al. 2019, arXiv:1909.08593);
    None: it is fixed."""
    kl_horizon: Positive
    """Responses in which the steered weight changes by a fifth at most."""
    kl_limit: Rate
    """Nats a response, on a rollout, past which training stops; the last policy within it is kept."""
    length_collapse: Annotated[float, Field(ge=0, lt=1)]
    """Training stops likewise when responses get shorter than this part of the first rollout's mean length."""
    length_explosion: Annotated[float, Field(gt=1)]
    """And when they get longer than so many times that length."""
    discount: Share
    """Gamma."""
    gae_lambda: Share
    """Lambda of generalised advantage estimation."""
    temperature: Rate
    """Sampling temperature of the rollout."""
    max_new_tokens: Positive
    """Longest response in tokens."""
    unfinished_penalty: Annotated[float, Field(ge=0)]
    """Taken off the whitened reward of a response without an end token."""
    reward_model_weight: Annotated[float, Field(ge=0)]
    """By which the reward model's rewards are multiplied before those of `reward_functions` are added."""
    reward_functions: list[RewardFunction]
    """Rewards by your own code."""
    measure_every: Positive
    """Iterations between policies that are measured on the held-out prompts and kept until one is chosen."""
    kl_price: Annotated[float, Field(ge=0)]
    """What a nat of divergence costs in that choice, in deviations of the reward; the gain is the mean of the gains by
    the reward model and by the held-out one."""
    checkpoint_every: Positive
    """Iterations between checkpoints."""
    evaluation_prompts: Positive
    """Held-out prompts on which reward, gold score, KL and length are measured."""

    @model_validator(mode="after")
    def _can_be_steered(self) -> Self:
        if self.kl_target is None:
            return self
        if self.kl_coefficient == 0:
            raise ValueError(
                "ppo.kl_target is set but ppo.kl_coefficient is 0, and no factor changes that: set the second to where"
                " the steering shall begin, for instance 0.05, or the first to null"
            )
        if self.kl_target >= self.kl_limit:
            raise ValueError(
                f"ppo.kl_target is {self.kl_target} but training stops at ppo.kl_limit = {self.kl_limit}: lower the"
                " first or raise the second"
            )
        if self.kl_horizon < self.prompts_per_iteration:
            raise ValueError(
                f"ppo.kl_horizon is {self.kl_horizon} but an iteration has ppo.prompts_per_iteration ="
                f" {self.prompts_per_iteration} responses: raise the first at least to the second"
            )
        return self

    @model_validator(mode="after")
    def _repeats_its_probabilities(self) -> Self:
        if self.lora.dropout > 0:
            raise ValueError(
                f"ppo.lora.dropout is {self.lora.dropout}, but learning compares chances with those of the rollout:"
                " with dropout they differ before anything is learnt. Make it 0"
            )
        return self

    @model_validator(mode="after")
    def _something_is_rewarded(self) -> Self:
        if self.reward_model_weight == 0 and not any(entry.weight for entry in self.reward_functions):
            raise ValueError(
                "ppo.reward_model_weight is 0 and no function in ppo.reward_functions has a weight, so that nothing is"
                " rewarded: raise the first, or name a function with a weight"
            )
        return self


class Decoding(Section):
    """One way to decode."""

    name: str
    """What it is called in the report."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus."""
    beams: Positive = 1
    """Beam search with this many beams."""


class Evaluation(Section):
    """What is measured."""

    examples_per_task: Positive
    """Test records a task on average; they are drawn evenly from all tasks of a kind (short or long answers)."""
    shots: Annotated[list[NotNegative], Field(min_length=1)]
    """Numbers of examples in the prompt with which the base model is asked."""
    shot_examples: Positive
    """Test records a task for the zero-, one- and few-shot comparison."""
    decodings: list[Decoding]
    """Ways to decode that are compared."""
    decoding_examples: Positive
    """Test records a task for the comparison of decodings."""
    win_rate_prompts: Positive
    """Prompts on which the policy is compared with the SFT model."""
    max_new_tokens: Positive
    """Longest answer in tokens."""


class Student(Section):
    """A distilled model of half the depth (Hinton et al. 2015, arXiv:1503.02531)."""

    max_tokens: Positive
    """Training ends after this many tokens."""
    learning_rate: Rate
    """Peak of the schedule."""
    temperature: Rate
    """Of the softened distributions."""


class CompressionRule(Section):
    """The smallest candidate within these limits is chosen."""

    max_bytes_ratio: Rate
    """Bytes beside the float32 model."""
    max_bits_per_byte_increase: Annotated[float, Field(ge=0)]
    """Relative increase of bits per byte over the float32 model."""
    max_task_score_drop: Annotated[float, Field(ge=0)]
    """Absolute drop of the task score, the mean over the tasks."""
    max_worst_task_drop: Annotated[float, Field(ge=0)]
    """Absolute drop of any one task's score: what the mean would hide."""


class Compression(Section):
    """Smaller models."""

    sparsities: list[Share]
    """Shares of the weights that pruning sets to zero."""
    calibration_tokens: Positive
    """Tokens for Wanda's activation norms."""
    student: Student
    """The distilled student."""
    examples_per_task: Positive
    """Held-out instructions a task for the task score (split valid to choose, split test for the chosen one)."""
    max_new_tokens: Positive
    """Longest of their answers in tokens."""
    rule: CompressionRule
    """How one candidate is chosen."""


class Deployment(Section):
    """The release."""

    name: str
    """Name of the model."""
    licence: str
    """Of the weights, as the model card states it: an SPDX identifier."""
    intended_use: str
    """What the model card says the model is for."""
    prompts: Annotated[list[str], Field(min_length=1)]
    """Asked of the loaded release."""
    max_silent_share: Share
    """Refuse a release that answers a larger share of the prompts with nothing."""
    max_new_tokens: Positive
    """Longest answer in tokens."""
    timeout_seconds: Positive
    """The sandbox process must answer within this time."""
    memory_mib: Positive
    """Address space of the sandbox process (MiB); the libraries alone take about 4,000."""
    reference_documents: NotNegative
    """Held-out documents of each kind that the release carries as token ids, so that drift can be measured without the
    data. Who has the release can read them; 0: none, and drift cannot be measured."""


class Drift(Section):
    """When served traffic, or a batch of data, counts as changed."""

    alpha: Annotated[float, Field(gt=0, lt=1)]
    """Probability of a false alarm for one window, over all its tests (Bonferroni)."""
    permutations: Annotated[int, Field(ge=99)]
    """Random deals of a permutation test. (permutations + 1) x alpha / 5 tests should be a whole number."""
    window_documents: Positive
    """Documents in a window."""
    min_documents: Annotated[int, Field(ge=10)]
    """Fewer usable documents on either side are "insufficient data"."""
    max_documents: Positive
    """Of a larger batch so many are drawn."""
    max_missing_share: Share
    """A test says nothing when a greater share of its documents has no figure."""
    recent_windows: Positive
    """Windows that the policy looks back at, the latest included."""
    needed_windows: Positive
    """The latest window and so many of the recent ones in all must differ for an alarm."""
    accepted_windows: Positive
    """So many accepted windows of requests, the latest ones, are the traffic's own reference; with fewer the release's
    reference decides."""
    expected_share: Share
    """Schema: at least this share of the documents must lie between the least and the greatest value of each
    descriptor in the reference profile."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.needed_windows > self.recent_windows:
            raise ValueError(
                f"drift.needed_windows is {self.needed_windows} but drift.recent_windows is {self.recent_windows}:"
                " lower the first or raise the second in params.yaml"
            )
        if self.min_documents > self.window_documents:
            raise ValueError(
                f"drift.min_documents is {self.min_documents} but drift.window_documents is {self.window_documents}:"
                " lower the first or raise the second in params.yaml"
            )
        smallest = 1 / (self.permutations + 1)
        if smallest > self.alpha / 5:
            raise ValueError(
                f"drift.permutations is {self.permutations}, whose smallest p-value {smallest:.2g} is above drift.alpha"
                f" / 5 tests = {self.alpha / 5:.2g}: no alarm could ever be raised. Raise drift.permutations in"
                " params.yaml"
            )
        return self


Figure = Literal[
    "data_validation.num_contaminated",
    "data_validation.num_documents",
    "data_validation.num_rejected",
    "tokenization.bytes_per_token",
    "tokenization.mask_audit_errors",
    "tokenization.round_trip_errors",
    "pretraining.val_bits_per_byte",
    "finetuning.exact_match",
    "finetuning.forgetting",
    "finetuning.rouge_l",
    "feedback.annotator_agreement",
    "feedback.best_reachable_accuracy",
    "reward_modeling.expected_calibration_error",
    "reward_modeling.gold_accuracy",
    "reward_modeling.held_out_accuracy",
    "reward_modeling.held_out_accuracy_low",
    "reward_modeling.recovered_share",
    "reward_modeling.similar_length_accuracy",
    "ppo.distinct_after",
    "ppo.finished_after",
    "ppo.gold_gain",
    "ppo.gold_gain_low",
    "ppo.kl",
    "ppo.reward_gain_low",
    "evaluation.policy_bits_per_byte",
    "evaluation.policy_exact_match",
    "evaluation.policy_exact_match_low",
    "evaluation.policy_forgetting",
    "evaluation.policy_rouge_l",
    "compression.test_bits_per_byte_increase",
    "compression.test_task_score",
    "compression.unfinished_share",
    "compression.empty_share",
    "exam.bits_per_byte",
    "exam.task_score",
]
"""What a floor may name: `<stage>.<field of its report>`, as the release's figures.json has it, or `exam.` and a figure
that the gate itself measures on the release."""


class Floor(Section):
    """A limit on one figure of the release; a figure that is missing or no number fails."""

    figure: Figure
    """Which."""
    at_least: float | None = None
    """Smallest value that passes."""
    at_most: float | None = None
    """Largest value that passes."""

    @field_validator("figure", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        known = get_args(Figure)
        if value not in known:
            close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"promotion.floors: there is no figure {value!r}; {meant}")
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(
                f"promotion.floors: {self.figure} has no limit: give at_least or at_most, or remove it, in params.yaml"
            )
        return self


class Margins(Section):
    """How much worse than the champion, on the same examples, is as good as equal."""

    task_score: Annotated[float, Field(ge=0)]
    """Absolute drop of the mean score (exact match or ROUGE-L) over all instructions."""
    one_task: Annotated[float, Field(ge=0)]
    """Absolute drop of the score of any one task."""
    bits_per_byte: Annotated[float, Field(ge=0)]
    """Relative increase of bits per byte on held-out text."""


class Infra(Section):
    """The second blessing: the release must not only be good but usable."""

    requests: Positive
    """Requests, one after the other, whose time is taken; deployment.prompts in turn."""
    max_load_seconds: Rate
    """From the folder on disk to a model in memory."""
    max_p99_seconds: Rate
    """99th percentile of the time of a request (promotion.max_new_tokens at most)."""
    max_memory_mib: Positive
    """Largest resident memory (MiB) after loading and answering, libraries included."""
    timeout_seconds: Positive
    """One release must be examined within this time."""
    address_space_mib: Positive
    """Address space of the examining process (MiB); the libraries alone take about 4,000."""


class Promotion(Section):
    """The gate before a release goes live, and what it asks. A missing or undefined figure always fails."""

    examples_per_task: Positive
    """Test instructions a task on average that champion and challenger answer; they stay with the version."""
    documents: Positive
    """Test documents whose likelihood is compared."""
    max_new_tokens: Positive
    """Longest answer in tokens."""
    min_examples: Positive
    """A smaller exam proves nothing and fails."""
    min_share_of_last_exam: Share
    """An exam with fewer instructions or documents than this share of the champion's own exam fails, and so does one
    that lacks a task of it."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Of the one-sided statements "not worse than the champion by more than the margin"."""
    margins: Margins
    """Against the champion."""
    floors: list[Floor]
    """Against nothing: they hold for the first release too."""
    reward_model: RewardVerdict
    """Its own verdict."""
    infra: Infra
    """Loads, answers, in time, within memory."""


class ServingLimits(Section):
    """What one request, and all together, may ask for; more is refused before the model sees it."""

    body_bytes: Positive
    """Longest request body (413)."""
    json_depth: Positive
    """Deepest nesting of the body's JSON (422)."""
    prompt_tokens: Positive
    """Longest prompt (413); the model's context limits it too."""
    max_tokens: Positive
    """Longest answer that may be asked for, and what is given when nothing is asked for (422)."""
    choices: Positive
    """Most answers of one request: prompts times n (422)."""
    beams: Positive
    """Widest beam search (422)."""
    stops: Positive
    """Most stop strings (422)."""
    stop_characters: Positive
    """Longest stop string (422)."""
    logprobs: NotNegative
    """Most alternatives a token (422)."""
    queue: NotNegative
    """Sequences that may wait beyond `serving.slots`; the next is told to come again later (429)."""
    connections: Positive
    """Open connections; the longest idle one makes room for a new one."""
    header_seconds: Rate
    """A request's head must be complete within this time after the connection opened, or it is closed."""
    body_seconds: Rate
    """A request's body must be complete within this time (408)."""
    send_seconds: Rate
    """A client that takes nothing of its answer for this long is disconnected."""


class RequestLog(Section):
    """What is remembered of each request."""

    text: bool
    """Prompts and answers too, with personal data redacted; descriptors are always kept."""
    text_hours: Rate
    """Text is deleted when it is this old; the descriptors stay."""
    segment_mib: Rate
    """A file of the log is closed at this size (MiB)."""
    segment_minutes: Rate
    """A file of the log is closed at this age."""


class Serving(Section):
    """The server of `moteur serve`."""

    engine: Literal["moteur", "vllm"]
    """moteur: our own, on CPU and GPU. vllm: hand the bundle to vLLM, which needs a GPU."""
    host: str
    """Address to listen at."""
    port: Annotated[int, Field(ge=0, le=65535)]
    """Port to listen at; 0: any free one, which is printed."""
    token_file: str
    """File with the tokens that clients may show, one a line; made with a random one when it is missing. The
    environment variable MOTEUR_TOKEN goes before it."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Of weights and products; auto: bfloat16 on a GPU that computes in it."""
    slots: Positive
    """Sequences that are answered at the same time."""
    prefill_tokens: Positive
    """Prompt tokens read between two tokens of the running answers."""
    poll_seconds: Rate
    """How often the champion (or the manifest of the folder) is looked at."""
    warm_up_tokens: Positive
    """Longest answer to each of `deployment.prompts` with which a version warms up."""
    warm_up_seconds: Rate
    """A version that has not answered all of them after this time is not swapped in."""
    limits: ServingLimits
    """What may be asked for."""
    log: RequestLog
    """What is remembered."""

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        for name in ("choices", "beams"):
            if getattr(self.limits, name) > self.slots:
                raise ValueError(
                    f"serving.limits.{name} is {getattr(self.limits, name)} but serving.slots is {self.slots}: lower"
                    " the first or raise the second in params.yaml"
                )
        rows, room = self.limits.choices * self.limits.beams, self.slots + self.limits.queue
        if rows > room:
            raise ValueError(
                f"one request may have serving.limits.choices x beams = {rows} sequences but serving.slots +"
                f" serving.limits.queue is {room}, so that it would be told to come again for ever: lower the first or"
                " raise the second in params.yaml"
            )
        return self


class AlertSink(Section):
    """One place that alerts go to. Its address is a secret, so it stands in the environment or in a file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """How `moteur alerts` and the outbox call it."""
    environment: str | None = None
    """Name of the environment variable that holds its Apprise URL (`mailtos://...`, `slack://...`, `json://...`)."""
    file: str | None = None
    """Or path of a file that holds the URL, relative to the checkout."""

    @model_validator(mode="after")
    def _has_one_home(self) -> Self:
        if (self.environment is None) == (self.file is None):
            raise ValueError(
                f"the sink {self.name!r} of alerts.sinks needs one of `environment` (name of a variable) and `file`"
                " (path): set exactly one, whose content is its Apprise URL"
            )
        return self


class Alerts(Section):
    """Who is told, and how persistently."""

    sinks: list[AlertSink]
    """Where alerts go; none: they are kept and shown by `moteur alerts`."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    """A sink that has not taken an alert after this time is tried again later (seconds)."""
    first_retry_seconds: Rate
    """Wait after the first failure (seconds); it doubles with each."""
    longest_retry_seconds: Rate
    """The wait never grows beyond this (seconds)."""
    give_up_hours: Rate
    """An alert that is older is not sent any more; it stays in the list as given up (hours)."""

    @model_validator(mode="after")
    def _names_and_waits_make_sense(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"alerts.sinks has {min(twice)!r} more than once: give each sink a name of its own")
        if self.longest_retry_seconds < self.first_retry_seconds:
            raise ValueError(
                f"alerts.longest_retry_seconds is {self.longest_retry_seconds} but alerts.first_retry_seconds is"
                f" {self.first_retry_seconds}: raise the first"
            )
        return self


class Retraining(Section):
    """A retraining: a run of the lifecycle at a pinned commit in a workspace of its own, then publication."""

    profile: str | None
    """Overrides over params.yaml, a path in the checkout; None: params.yaml as it is."""
    accepted: str
    """Folder in the checkout with new data that people or rules accepted: see data/accepted/README.md."""
    accept_requests: bool
    """A retraining that schedule or drift starts first does `moteur accept`: what users sent since the last time
    becomes accepted corpus, never what the model wrote. Needs serving.log.text."""
    attempts: Positive
    """A retraining that is killed goes on where it was, at most this many times in all."""
    kept: Positive
    """Workspaces of ended retrainings, whatever came of them, that are kept, the newest ones; what they made is in
    DVC's cache. One that is to go on keeps its workspace."""
    publish_retries: NotNegative
    """How often a push that fails is tried again, with a doubling wait that begins at a second."""
    publish_minutes: Rate
    """A push that has not ended after this time (minutes) has failed."""


class Probation(Section):
    """How a new champion is watched, and when the one before it is taken back without a person."""

    minutes: NotNegative
    """After its promotion; 0: never."""
    poll_seconds: Annotated[float, Field(gt=0, le=30)]
    """How often it is looked at."""
    requests: Annotated[int, Field(ge=10)]
    """It is judged by so many requests, its last ones, and not before it has had them."""
    max_error_share: Share
    """More of them failed, and more than before it, by more than chance gives: it goes back."""
    max_poor_share: Share
    """More answers are empty or loops than before it, by more than this and than chance gives: it goes back."""
    max_slowdown: Annotated[float, Field(gt=1)]
    """The slowest tenth takes so many times as long as before it: it goes back."""
    slow_seconds: Rate
    """What takes no longer than this is never slow."""


class Schedule(Section):
    """What `moteur up` does by itself."""

    retraining: str | None
    """Cron expression of five fields (minute hour day month weekday) in `timezone`; None: only drift or a person
    retrains."""
    timezone: str
    """IANA name, for instance Europe/Zurich."""
    monitoring_minutes: Positive | None
    """Requests are checked for drift every so many minutes; None: never."""
    retrain_on_drift: bool
    """Whether drift starts a retraining; otherwise it only alerts."""
    cooldown_minutes: NotNegative
    """Drift starts no retraining within this time of the start of the last one that drift started; when it lasts, the
    first look after that time starts one."""
    heartbeat_seconds: Annotated[int, Field(ge=30)]
    """A flow says this often (seconds) that it lives; Prefect takes no shorter time."""
    lost_after_seconds: Annotated[int, Field(ge=60)]
    """A flow that has been silent for so long (seconds) is taken for dead, and a retraining goes on; at least twice
    `heartbeat_seconds`."""
    pending_minutes: Positive
    """A run that has been about to start for so long (minutes) is given up."""

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"schedule.timezone is {self.timezone!r}, which is no IANA time zone: for instance Europe/Zurich or UTC"
            ) from None
        if self.retraining is not None:
            _refuse_wrong_cron(self.retraining)
        if self.lost_after_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"schedule.lost_after_seconds is {self.lost_after_seconds}, but a sign of life comes only every"
                f" schedule.heartbeat_seconds = {self.heartbeat_seconds}: make the first at least twice the second"
            )
        return self


def _refuse_wrong_cron(expression: str) -> None:
    from cronsim import CronSim, CronSimError

    try:
        if len(expression.split()) != 5:  # the seconds are the first of six to CronSim, and the last to Prefect
            raise CronSimError("it has not five fields")
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(
            f"schedule.retraining is {expression!r}, which is no cron expression ({error}): write minute, hour, day,"
            ' month, weekday, for instance "0 3 * * 1" for Mondays at three'
        ) from None


class Services(Section):
    """The processes of `moteur up`, all on this machine."""

    host: str
    """Address they listen on. 127.0.0.1: only this machine reaches them."""
    prefect_port: Annotated[int, Field(ge=1, le=65535)]
    """Port of the Prefect server; not used where PREFECT_API_URL is set."""
    mlflow_port: Annotated[int, Field(ge=1, le=65535)]
    """Port of the MLflow server; not used where MLFLOW_TRACKING_URI is set."""
    start_seconds: Positive
    """A service that does not answer after this time is restarted (seconds)."""
    stop_seconds: Positive
    """A stage that is stopped gets this long to save its state (seconds)."""

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.prefect_port == self.mlflow_port:
            raise ValueError(
                f"services.prefect_port and services.mlflow_port are both {self.mlflow_port}: change one of them"
            )
        return self


class Params(Section):
    """All of params.yaml."""

    seed: NotNegative
    """Of everything random."""
    threads: Positive | None
    """CPU threads; None: all cores this process may use."""
    ingestion: Ingestion
    data_validation: DataValidation
    tokenization: Tokenization
    model: Model
    pretraining: Pretraining
    finetuning: Finetuning
    feedback: Feedback
    reward_modeling: RewardModeling
    ppo: Ppo
    evaluation: Evaluation
    compression: Compression
    deployment: Deployment
    promotion: Promotion
    serving: Serving
    drift: Drift
    alerts: Alerts
    retraining: Retraining
    probation: Probation
    schedule: Schedule
    services: Services

    @property
    def ends_with_base(self) -> str | None:
        """Why the lifecycle ends with the base model, as `key is value`; None: it goes all the way."""
        if self.pretraining.objective != "causal":
            return f"pretraining.objective is {self.pretraining.objective}"
        return None if self.model.architecture == "llama" else f"model.architecture is {self.model.architecture}"

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        objective, architecture = self.pretraining.objective, self.model.architecture
        if objective != "causal" and architecture != "llama":
            raise ValueError(
                f"pretraining.objective is {objective}, which is for attention, but model.architecture is"
                f" {architecture}: set the first to causal, or the second to llama, in params.yaml"
            )
        if self.pretraining.init is not None and self.ends_with_base:
            raise ValueError(
                f"pretraining.init is {self.pretraining.init!r}, a causal language model, but {self.ends_with_base}:"
                " set pretraining.init to null in params.yaml"
            )
        return self

    @model_validator(mode="after")
    def _requests_that_are_accepted_are_kept(self) -> Self:
        if self.retraining.accept_requests and not self.serving.log.text:
            raise ValueError(
                "retraining.accept_requests is true but serving.log.text is false, so that there is no text to accept:"
                " set the second to true, or the first to false, in params.yaml"
            )
        return self

    @model_validator(mode="after")
    def _lengths_fit_the_model(self) -> Self:
        if self.pretraining.init is not None:
            return self
        lengths = {
            "pretraining.context": self.pretraining.context,
            "finetuning.max_length": self.finetuning.max_length,
            "reward_modeling.max_length": self.reward_modeling.max_length,
        }
        faults = [
            f"{key} is {length} but model.context is {self.model.context}: lower the first or raise the second in"
            " params.yaml"
            for key, length in lengths.items()
            if length > self.model.context
        ]
        if faults:
            raise ValueError("\n  ".join(faults))
        return self


def parse(values: Any, where: str = "params.yaml") -> Params:
    """Check `values` (a mapping as read from YAML) and return the params.

    Raises:
        ParamsError: for an unknown key, a missing key, a wrong type or a value out of range; all at once, a line each.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(item["loc"], item["msg"], item.get("input")) for item in error.errors()]
        raise ParamsError(f"{where} is not valid:\n  " + "\n  ".join(lines)) from None


def fields(location: Sequence[str | int]) -> list[str]:
    """The keys of the section at `location` ("model", for instance); none when there is no such section."""
    model: Any = Params
    for key in location:
        kinds = [model.model_fields[key].annotation] if key in getattr(model, "model_fields", {}) else get_args(model)
        model = next((kind for kind in kinds if isinstance(kind, type) or get_args(kind)), None)
    return list(getattr(model, "model_fields", {}))


def _meant(location: tuple[str | int, ...]) -> str:
    close = difflib.get_close_matches(str(location[-1]), fields(location[:-1]), n=1)
    return f"did you mean {'.'.join(map(str, (*location[:-1], close[0])))}?" if close else ""


def _sentence(location: tuple[str | int, ...], message: str, value: Any) -> str:
    if message.startswith("Value error, "):
        return message.removeprefix("Value error, ")
    key = ".".join(map(str, location)) or "(top)"
    if message == "Extra inputs are not permitted":
        return f"{key}: no such key; {_meant(location) or 'remove it or correct its name'}"
    if message == "Field required":
        return f"{key}: missing; add it"
    return f"{key} is {value!r}: {message[0].lower()}{message[1:]}"
