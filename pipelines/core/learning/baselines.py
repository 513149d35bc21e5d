"""Language models without attention, called, saved and loaded as causal models of transformers are.

This module imports transformers: import it inside functions.

Shapes: B sequences, T positions, E width of an embedding, W width of the model, V entries of the vocabulary.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import rnn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

if TYPE_CHECKING:
    from torch import Tensor


class BaselineConfig(PretrainedConfig):  # type: ignore[misc]  # transformers has no types
    """What a baseline looks like."""

    model_type = "moteur_baseline"

    def __init__(
        self,
        architecture: str = "lstm",
        vocab_size: int = 512,
        hidden_size: int = 64,
        width: int = 64,
        num_hidden_layers: int = 1,
        window: int = 8,
        max_position_embeddings: int = 512,
        initializer_range: float = 0.02,
        **options: Any,
    ) -> None:
        self.architecture = architecture
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.width = width
        self.num_hidden_layers = num_hidden_layers
        self.window = window
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        super().__init__(**options)


class Recurrent(nn.Module):
    """Elman's network (1990) or an LSTM (Hochreiter and Schmidhuber 1997); each document is a sequence of its own."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        cells = {"rnn": nn.RNN, "lstm": nn.LSTM}[config.architecture]
        self.cells = cells(config.hidden_size, config.width, num_layers=config.num_hidden_layers, batch_first=True)
        self.output = nn.Linear(config.width, config.hidden_size)

    def forward(self, x_BTE: "Tensor", positions_BT: "Tensor") -> "Tensor":
        """(B, T, E): what is to be said next."""
        begins = torch.nonzero(positions_BT.flatten() == 0).flatten()
        ends = torch.cat([begins[1:], begins.new_tensor([positions_BT.numel()])])
        documents = torch.split(x_BTE.flatten(0, 1), (ends - begins).tolist())
        states, _ = self.cells(rnn.pack_sequence(list(documents), enforce_sorted=False))
        said_BTE: Tensor = self.output(torch.cat(rnn.unpack_sequence(states))).view_as(x_BTE)
        return said_BTE


class Window(nn.Module):
    """The last `window` tokens side by side, one layer of tanh (Bengio et al. 2003, JMLR 3; no direct connections)."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.window * config.hidden_size, config.width)
        self.output = nn.Linear(config.width, config.hidden_size)
        self.window = config.window

    def forward(self, x_BTE: "Tensor", positions_BT: "Tensor") -> "Tensor":
        """(B, T, E): what is to be said next; before a document there is nothing, which is zero."""
        T = x_BTE.shape[1]
        seen = [
            functional.pad(x_BTE, (0, 0, back, 0))[:, :T] * (positions_BT >= back).unsqueeze(-1)
            for back in range(self.window)
        ]
        said_BTE: Tensor = self.output(torch.tanh(self.hidden(torch.cat(seen, dim=-1))))
        return said_BTE


class Baseline(PreTrainedModel):  # type: ignore[misc]  # transformers has no types
    """Embeddings, a body without attention, and a head over the vocabulary, which reads a norm as the Llama's does.

    Without the norm the LSTM was at 0.988 bits per byte after 200,000 tokens of the built-in corpus, with it at 0.685.
    """

    config_class = BaselineConfig
    _tied_weights_keys = {"head.weight": "embeddings.weight"}  # noqa: RUF012  as transformers has it

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.body = Window(config) if config.architecture == "mlp" else Recurrent(config)
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.embeddings or module is self.head:
            nn.init.normal_(module.weight, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings."""
        return self.embeddings

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.head

    def forward(self, input_ids: "Tensor", position_ids: "Tensor | None" = None, **_options: Any) -> CausalLMOutput:
        """Logits (B, T, V) of the next token. Where `position_ids` begin anew, nothing before is seen."""
        places_BT = position_ids
        if places_BT is None:
            places_BT = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        states_BTE = self.body(self.embeddings(input_ids), places_BT)
        return CausalLMOutput(logits=self.head(self.norm(states_BTE.float())))
