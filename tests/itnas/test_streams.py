"""Streams depend on their key alone."""

import torch

from itnas.streams import normal, stream


def test_a_stream_is_its_key():
    first = normal((100,), stream(1, "order", "weights", 3))
    torch.manual_seed(5)
    torch.randn(7)
    assert torch.equal(first, normal((100,), stream(1, "order", "weights", 3)))
    for other in [(2, "order", "weights", 3), (1, "order", "weights", 4), (1, "split")]:
        assert not torch.equal(first, normal((100,), stream(*other)))


def test_a_stream_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    normal((3,), stream(0, "x"))
    assert torch.equal(before, torch.get_rng_state())


def test_streams_of_neighbouring_keys_are_uncorrelated():
    draws = torch.stack([normal((2000,), stream(seed, "a")) for seed in range(20)])
    correlation = torch.corrcoef(draws) - torch.eye(20)
    assert correlation.abs().max() < 0.11  # 4.9 standard errors of 190 pairs
    assert abs(draws.mean().item()) < 0.025
