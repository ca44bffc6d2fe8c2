"""What tokenizer and processors return. Imports torch only when it makes tensors."""

from __future__ import annotations

from typing import Any, Self

KINDS = (None, "pt", "np")  # of ``return_tensors``: lists, torch's, NumPy's


class BatchFeature(dict[str, Any]):
    """``inputs["pixel_values"]``, ``inputs.pixel_values``, ``model(**inputs)``, ``inputs.to(device)``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def data(self) -> dict[str, Any]:
        """The plain dict."""
        return dict(self)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the tensors to a device, and those of floats to a dtype, in place: as ``torch.Tensor.to``."""
        import torch

        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                moved = value.to(*args, **kwargs)
                self[name] = moved if value.is_floating_point() else moved.to(value.dtype)
        return self

    def convert_to_tensors(self, tensor_type: str | None = None) -> Self:
        """Make tensors of lists, in place: "pt" for torch's, "np" for NumPy's. Raises ValueError."""
        for name, value in self.items():
            self[name] = as_tensors(value, tensor_type)
        return self


def check_kind(return_tensors: Any) -> None:
    """Raises ValueError for a kind of tensors that is not known."""
    if return_tensors not in KINDS:
        raise ValueError(f"return_tensors {return_tensors!r} is not one of 'pt', 'np', None")


def as_tensors(values: Any, return_tensors: str | None) -> Any:
    """Lists of numbers as a tensor of ``return_tensors``; anything else as it is. Raises ValueError."""
    check_kind(return_tensors)
    if return_tensors is None or not isinstance(values, list):
        return values
    if len({len(row) for row in values if isinstance(row, list)}) > 1:
        raise ValueError("the texts differ in length: pass padding=True to make tensors of them")
    if return_tensors == "np":
        import numpy as np

        return np.array(values)
    import torch

    return torch.tensor(values)
