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


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy of features [N, D] and [M, D] under the kernel (x y / D + 1)^3.

    Binkowski et al. 2018, "Demystifying MMD GANs", section 4 (KID), over all pairs instead of over drawn subsets: so it
    is a function of the images alone. Not biased by their number, as the Frechet distance is; may be below 0.

    Raises:
        ValueError: there are fewer than two of either.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} feature vectors: a kernel distance takes two of each at least")
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / a.shape[1] + 1) ** 3

    def among(x: np.ndarray) -> float:
        within = kernel(x, x)
        return (within.sum() - within.trace()) / (len(x) * (len(x) - 1))

    return float(among(a) + among(b) - 2 * kernel(a, b).mean())


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
