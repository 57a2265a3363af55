"""What of the GPU path can be seen without one: flags, streams and devices, with CUDA replaced."""

import contextlib

import pytest
import torch

import itnas
from itnas.engine.flags import device_flags
from itnas.engine.graphs import WARM_UP, CapturedStep
from itnas.settings import EngineSettings, SearchSettings, Seeds, Setting
from tests.itnas import pausing

CUDNN, PRODUCTS = torch.backends.cudnn, torch.backends.cuda.matmul


def flags():
    found = [CUDNN.deterministic, CUDNN.benchmark]
    found += [place.fp32_precision for place in (PRODUCTS, CUDNN.conv, CUDNN.rnn)]
    with contextlib.suppress(RuntimeError):  # as where the two interfaces are mixed
        found.append(torch.get_float32_matmul_precision())
    return found


def mixed():
    CUDNN.conv.fp32_precision, PRODUCTS.fp32_precision = "ieee", "tf32"


USERS = {  # what somebody may have set in his process
    "nothing": lambda: None,
    "autotuning": lambda: setattr(CUDNN, "benchmark", True),
    "tf32": lambda: setattr(PRODUCTS, "allow_tf32", True),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "no tf32": lambda: setattr(CUDNN, "allow_tf32", False),
    "the newer interface": mixed,
}


@pytest.fixture(params=USERS)
def before(request):
    places = (PRODUCTS, CUDNN.conv, CUDNN.rnn)
    start = CUDNN.deterministic, CUDNN.benchmark, [place.fp32_precision for place in places]
    USERS[request.param]()
    yield flags()
    CUDNN.deterministic, CUDNN.benchmark = start[:2]
    torch.set_float32_matmul_precision("highest")
    CUDNN.allow_tf32 = True
    for place, value in zip(places, start[2], strict=True):
        place.fp32_precision = value


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_flags_are_set_around_a_step_and_put_back(before, precision):
    def failing():
        with device_flags(torch.device("cuda:1"), precision):
            inside = CUDNN.deterministic, CUDNN.benchmark, PRODUCTS.allow_tf32, CUDNN.allow_tf32
            # p is in products, which round nothing whatever the precision
            assert inside == (True, False, False, precision == "tf32")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert flags()[: len(before)] == before  # the last may not have been readable


def pack_of(digits, **engine):
    search = SearchSettings(epochs=1, batch_size=32, channels=4, cells=1)
    return itnas.SearchPack([Setting("nas-bench-201", search)], [Seeds.all(0)], digits,
                            EngineSettings(**engine))  # fmt: skip


def test_a_pack_on_the_cpu_leaves_the_flags_alone(digits, before, monkeypatch):
    pack = pack_of(digits, layout="groups")
    seen = []
    forward = pack.engine._forward
    monkeypatch.setattr(
        pack.engine, "_forward", lambda *given: (seen.append(flags()), forward(*given))[1]
    )
    pack.run_epoch()
    assert seen == [before] * len(seen) != []


def test_whatever_a_pack_computes_has_its_flags(digits, monkeypatch):
    entered, inside = [], []

    @contextlib.contextmanager
    def recorded(device, precision):
        entered.append((device, precision))
        yield
        entered.pop()

    monkeypatch.setattr("itnas.engine.pack.device_flags", recorded)
    pack = pack_of(digits, layout="groups", precision="float64")
    forward = pack.engine._forward

    def watched(*given):
        inside.append(entered[-1])
        return forward(*given)

    monkeypatch.setattr(pack.engine, "_forward", watched)
    images, labels = next(pack.batches.training("weights", 0))
    pack.engine.moment = (0, 0)
    pack.architecture_step(images, labels)
    pack.weight_step(images, labels)
    pack.run_epoch()
    assert set(inside) == {(torch.device("cpu"), "float64")}
    assert not entered


class FakeCuda:
    """Streams and graphs that write down what is asked of them, and where."""

    def __init__(self, monkeypatch):
        self.device, self.stream = 0, "current"
        self.log = []
        outer = self

        class Stream:
            def __init__(self):
                outer.log.append(("made a stream on", outer.device))

            def wait_stream(self, other):
                pass

        class Graph:
            def replay(self):
                outer.log.append(("replayed on", outer.device))

        @contextlib.contextmanager
        def changed(name, value):
            old = getattr(outer, name)
            setattr(outer, name, value)
            yield
            setattr(outer, name, old)

        here = Stream.__new__(Stream)
        for name, value in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "current_stream": lambda: here,
            "device": lambda device: changed("device", device.index),
            "stream": lambda stream: changed("stream", stream),
            "graph": lambda graph, stream: changed("stream", stream),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)


def test_a_graph_is_captured_on_its_own_device_after_a_warm_up_on_one_stream(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    places = []

    def step(*batch):
        places.append((cuda.device, cuda.stream))
        return torch.zeros(1), torch.zeros(1)

    captured = CapturedStep(step, torch.device("cuda:1"))
    for _ in range(WARM_UP + 3):
        captured(torch.zeros(2), torch.zeros(2))
    assert len(places) == WARM_UP + 1  # and one to be captured
    assert set(places) == {(1, captured.side)}
    assert cuda.log == [("made a stream on", 1)] + [("replayed on", 1)] * 3
    assert cuda.device == 0


def captured(pack, monkeypatch):
    """The pack with its step as a graph: capturing changes nothing, a replay takes the step on the
    tensors that were captured.
    """
    FakeCuda(monkeypatch)
    step = CapturedStep(pack._take_step, torch.device("cuda:0"))

    class Graph:
        def replay(self):
            for mine, found in zip(step.outputs, pack._take_step(*step.inputs), strict=True):
                mine.copy_(found)

    @contextlib.contextmanager
    def recording(graph, stream):
        before = pack.state_dict()
        yield
        pack.load_state_dict(before)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    pack._stepped = step
    return pack


@pytest.mark.parametrize("left_after", [1, 2, 5])
def test_a_captured_pack_goes_on_from_a_state_to_the_bit(monkeypatch, left_after):
    """Of six steps; a warm-up is part of the search, on either side of the pause."""
    images, case = pausing.data(), pausing.Case("nas-bench-201", pausing.MIXED, "groups")
    plain = pausing.finish(case.pack(images))
    one = captured(case.pack(images), monkeypatch)
    pausing.advance(one, left_after)
    assert (one._stepped.graph is None) == (left_after <= WARM_UP)
    other = captured(case.pack(images), monkeypatch)
    other.load_state_dict(one.state_dict())
    assert pausing.outcome(pausing.finish(other)) == pausing.outcome(plain)
    assert (other._stepped.graph is None) == (6 - left_after <= WARM_UP)


def test_graphs_are_refused_where_the_host_draws_noise(digits):
    search = SearchSettings(epochs=1, batch_size=32, channels=4, cells=3)
    engine = EngineSettings(device="cuda", graphs=True)
    with pytest.raises(ValueError, match="graphs: True is not allowed; false in s4") as refusal:
        itnas.SearchPack([Setting("s4", search)], [Seeds.all(0)], digits, engine)
    assert "\n" not in str(refusal.value)
