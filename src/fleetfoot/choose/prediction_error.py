"""Agreement of predicted times with measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of predictions with measurements. An error is |predicted / measured - 1|."""

    networks: int
    median_error: float
    p90_error: float
    """Error that nine networks in ten do not exceed."""
    spearman: float
    """Rank correlation: 1 if the predictions have the order of the measured times; 0 if one side
    has only one value and so no order."""

    @classmethod
    def of(cls, predicted_s: Sequence[float], measured_s: Sequence[float]) -> Agreement:
        """The agreement of pairs of times, in seconds.

        Raises:
            ValueError: there are fewer than two networks, unequal numbers of times, or a measured
                time that is not positive.
        """
        if len(predicted_s) != len(measured_s) or len(measured_s) < 2 or min(measured_s) <= 0:
            raise ValueError(
                "an agreement needs two or more networks, each with a prediction and a positive "
                f"time; {len(predicted_s)} predictions and {len(measured_s)} times were given"
            )
        predicted, measured = np.asarray(predicted_s, float), np.asarray(measured_s, float)
        errors = np.abs(predicted / measured - 1)
        return cls(
            networks=len(measured_s),
            median_error=float(np.median(errors)),
            p90_error=float(np.quantile(errors, 0.9)),
            spearman=spearman(predicted, measured),
        )


def spearman(a: Sequence[float] | NDArray[np.float64], b: Sequence[float]
             | NDArray[np.float64]) -> float:  # fmt: skip
    """Correlation of the ranks (Spearman 1904); equal values share the mean of their ranks."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else 0.0


def ranks(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of the values, from 1 for the least; equal values share the mean of their ranks."""
    _, place, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
