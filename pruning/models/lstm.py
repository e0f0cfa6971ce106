"""A recurrent language model."""

from torch import Tensor, nn


def lstm_lm(
    *,
    tokens: int = 65,
    embedding: int = 64,
    hidden: int = 256,
    layers: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """Embedding, LSTM layers, decoder: logits (N, T, tokens) for the next of tokens (N, T).

    Source: Zaremba et al. 2014; its 65 tokens are those of tinyshakespeare. `dropout` is the share
    dropped on every connection that is not recurrent, theirs 0.5 and 0.65.
    """
    return _LanguageModel(tokens, embedding, hidden, layers, dropout)


class _LanguageModel(nn.Module):
    def __init__(
        self, tokens: int, embedding: int, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, embedding)
        between = dropout if layers > 1 else 0.0  # one layer has nothing between, and warns
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.dropout(self.embedding(tokens)))
        logits: Tensor = self.decoder(self.dropout(hidden))
        return logits
