"""The memory zoo: programs whose peak GPU memory is recorded on a GPU and predicted without one.

    python benchmarks/memory_zoo.py          # the names of all cases, with their families

They need torch, and some of them transformers; weights are random. ``gpu_ground_truth.py`` runs them.
"""

from __future__ import annotations

from memory_cases import convnets, decoders, detectors, diffusion, encoders, layers
from memory_cases.case import Case

# Those that need no import beside torch come first: on a slow machine that is most of their time.
CASES: list[Case] = [
    case for room in (layers, convnets, diffusion, detectors, encoders, decoders) for case in room.ZOO.cases
]
BY_NAME: dict[str, Case] = {case.name: case for case in CASES}


def main() -> None:
    """Print the names."""
    for case in CASES:
        print(f"{case.name:<45} {case.family:<12} {case.library}")


if __name__ == "__main__":
    main()
