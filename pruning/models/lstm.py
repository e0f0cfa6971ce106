"""A recurrent language model."""

from torch import Tensor, nn


def lstm_lm(
    *, tokens: int = 65, embedding: int = 64, hidden: int = 256, layers: int = 2
) -> nn.Module:
    """Embedding, LSTM layers, decoder: logits (N, T, tokens) for the next of tokens (N, T).

    Source: Zaremba et al. 2014, without dropout, its 65 tokens those of tinyshakespeare.
    """
    return _LanguageModel(tokens, embedding, hidden, layers)


class _LanguageModel(nn.Module):
    def __init__(self, tokens: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.decoder = nn.Linear(hidden, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.decoder(hidden)
        return logits
