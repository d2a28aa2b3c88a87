"""The batch plan: every row once per epoch, within the budget, the same for the same seed."""

from __future__ import annotations

import numpy as np

from tinyforge.dataset.batches import BatchPlan, plan_epoch


def lengths(count: int = 500) -> list[int]:
    return np.random.default_rng(0).integers(3, 90, count).tolist()


def test_every_row_once_and_within_the_budget() -> None:
    sizes = lengths()
    batches = plan_epoch(sizes, 256, 1, 0)
    assert sorted(int(i) for batch in batches for i in batch) == list(range(500))
    assert all(len(batch) * max(sizes[i] for i in batch) <= 256 for batch in batches)


def test_padding_is_rare_and_a_random_order_would_pad_more() -> None:
    sizes = np.array(lengths())

    def waste(batches: list[np.ndarray]) -> float:
        padded = sum(len(b) * sizes[b].max() for b in batches)
        return 1 - sizes.sum() / padded

    planned = plan_epoch(sizes, 256, 1, 0)
    order = np.random.default_rng(1).permutation(500)
    unsorted = [order[i : i + 5] for i in range(0, 500, 5)]
    assert waste(planned) < 0.08 < waste(unsorted)


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        return [int(i) for batch in plan_epoch(lengths(), 256, seed, epoch) for i in batch]

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1) and flat(1, 0) != flat(2, 0)


def test_fractional_epochs_and_a_row_over_the_budget() -> None:
    plan = BatchPlan(lengths(), 256, 1, 2.5)
    one = len(BatchPlan(lengths(), 256, 1, 1))
    assert abs(len(plan) - 2.5 * one) <= 2
    assert [int(i) for i in plan[0]] == [int(i) for i in BatchPlan(lengths(), 256, 1, 1)[0]]
    assert [batch.tolist() for batch in plan_epoch([1000], 256, 1, 0)] == [[0]]
