"""Texts: what labels are put into → their features, computed once and kept on disk for the next time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..errors import LabelsError, ModelError
from ..model.checkpoint.find import Checkpoint
from ..model.loading import load_model, load_tokenizer
from ..text import quoted
from .cache import FeatureCache

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..model.config import XCLIPConfig
    from ..model.modeling import XCLIPModel
    from ..model.tokenizer import CLIPTokenizer

TEXTS_AT_ONCE = 256
FEATURES_FORMAT = 2  # of what the cache holds


class Texts:
    """Groups of texts, each group one thing to compare videos with: its features are the mean over its texts.

    ``tokenizer``: a folder or hub id, if the checkpoint has none. ``cache``: whether features are kept on disk; what
    is found there needs no text encoder. Raises LabelsError for a text that the model cannot take, and ModelError.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        checkpoint: Checkpoint,
        config: XCLIPConfig,
        tokenizer: str | None = None,
        cache: bool = True,
    ) -> None:
        self._counts = [len(texts) for texts in groups]
        self._checkpoint, self._config = checkpoint, config
        self._input_ids = self._tokenize(
            [text for texts in groups for text in texts], load_tokenizer(checkpoint, tokenizer)
        )
        self._cache = FeatureCache() if cache else None
        self._features: Tensor | None = None

    def features(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """[groups, P] in float32, un-normalised, as the prompt generator expects them: from the cache or by the text
        encoder, which computes in ``dtype``; the first time only. Raises ModelError."""
        if self._features is None:
            self._features = self._stored_or_encoded(dtype, device)
        return self._features

    def _stored_or_encoded(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        import torch

        from ..model.modeling import is_text_parameter
        from .lanes import is_out_of_memory

        values = [FEATURES_FORMAT, __version__, self._checkpoint.local_identity, str(dtype), device.type]
        key = json.dumps([*values, self._input_ids, self._counts])
        stored = self._cache.get(key) if self._cache else None
        shape = (len(self._counts), self._config.projection_dim)
        if stored is not None and stored.shape == shape and np.isfinite(stored).all():  # others may have written it
            return torch.from_numpy(stored).to(device)
        model = load_model(self._checkpoint, self._config, dtype, device, is_text_parameter)
        try:
            features = self._encode(model, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"{device} has too little free memory for {min(len(self._input_ids), TEXTS_AT_ONCE)} texts at once: "
                "free some, or choose another device with --device"
            ) from error
        if self._cache:
            self._cache.put(key, features.cpu().numpy())
        return features

    def _tokenize(self, texts: list[str], tokenizer: CLIPTokenizer) -> list[list[int]]:
        """In parts, so that a text that is too long ends it before all of them take memory."""
        limit = self._config.text_config.max_position_embeddings
        found: list[list[int]] = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            part = texts[first : first + TEXTS_AT_ONCE]
            found += self._checked(part, tokenizer(part)["input_ids"], limit, tokenizer.eos_token_id)
        return found

    def _checked(self, texts: list[str], rows: list[list[int]], limit: int, end: int) -> list[list[int]]:
        """The tokens of ``texts``. Raises LabelsError if they are too many, ModelError where they do not fit."""
        for text, row in zip(texts, rows, strict=True):
            if len(row) > limit:
                raise LabelsError(
                    f"a text has {len(row)} tokens, but the model {self._checkpoint.name} takes at most {limit}: "
                    f"shorten {quoted(text)}"
                )
            if max(row) != end:
                raise ModelError(
                    f"the tokenizer of {self._checkpoint.name} does not fit X-CLIP: its end token must have the "
                    "largest id of all"
                )
        return rows

    def _encode(self, model: XCLIPModel, device: torch.device) -> Tensor:
        import torch

        rows = self._input_ids
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        with torch.inference_mode():
            of_texts = torch.empty(len(rows), self._config.projection_dim, device=device)
            for first in range(0, len(rows), TEXTS_AT_ONCE):
                chunk = by_length[first : first + TEXTS_AT_ONCE]
                # Trimmed to the longest and without a mask: causal attention never looks at padding.
                length = len(rows[chunk[-1]])
                ids = torch.tensor([rows[i] + rows[i][-1:] * (length - len(rows[i])) for i in chunk])
                of_texts[chunk] = model.encode_text(ids.to(device)).features.float()
            if len(self._counts) == len(rows):
                return of_texts
            return torch.stack([texts.mean(dim=0) for texts in torch.split(of_texts, self._counts)])
