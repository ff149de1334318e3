"""Distances between two sets of features: Frechet (FID with Inception's features) and kernel (KID).

Letters: N and M vectors of D numbers.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """Mean [D] and covariance [D, D] (over n - 1) of n features, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    @staticmethod
    def of(features: np.ndarray) -> "Gaussian":
        """Of features [N, D].

        Raises:
            ValueError: there are fewer than two.
        """
        if len(features) < 2:
            raise ValueError(f"{len(features)} feature vectors have no covariance; give at least two images")
        features = features.astype(np.float64)
        return Gaussian(features.mean(0), np.cov(features, rowvar=False), len(features))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2), Heusel et al. 2017, equation 6.

    The trace of the root is the sum of the roots of the eigenvalues of C_a C_b, which are those of the symmetric
    C_a^1/2 C_b C_a^1/2: real and not negative but for rounding, also where there are fewer images than dimensions.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    product = np.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.sqrt(np.clip(product, 0, None)).sum()
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace)
