"""Parts, batches and augmentation."""

import pytest
import torch

from itnas.data import Batches, DataError, DataSettings, ImageData


def image_data(count=200, channels=3, size=16, **settings):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), generator=generator)
    labels = torch.arange(count) % 10
    return ImageData(
        DataSettings(**settings), images.to(torch.uint8), labels,
        images[:20].to(torch.uint8), labels[:20], tuple("abcdefghij"),
    )  # fmt: skip


class OneReplica(Batches):
    """The batches of a pack of one, without the replica dimension."""

    def training(self, part, epoch):
        return ((x[0], y[0]) for x, y in super().training(part, epoch))

    def evaluation(self, part):
        return ((x[0], y[0]) for x, y in super().evaluation(part))


def batches(data, seed=0, batch_size=16):
    return OneReplica(data, [seed], batch_size, "cpu", torch.float32)


def test_replicas_see_what_they_would_see_alone():
    data = image_data(200, cutout=4)
    together = Batches(data, [3, 0, 3], 16, "cpu", torch.float32)
    for k, seed in enumerate((3, 0, 3)):
        alone = batches(data, seed)
        for mine, wanted in (
            (together.training("weights", 2), alone.training("weights", 2)),
            (together.evaluation("holdout"), alone.evaluation("holdout")),
        ):
            for (x, y), (u, v) in zip(mine, wanted, strict=True):
                assert torch.equal(x[k], u)
                assert torch.equal(y[k], v)


def test_an_epoch_begins_at_any_step_with_that_steps_batch():
    view = Batches(image_data(200, cutout=4), [3, 0], 16, "cpu", torch.float32)
    whole = list(view.training("weights", 1))
    assert len(whole) == view.steps == 5
    for first in range(view.steps + 1):
        rest = list(view.training("weights", 1, first))
        assert len(rest) == view.steps - first
        for (x, y), (u, v) in zip(rest, whole[first:], strict=True):
            assert torch.equal(x, u)
            assert torch.equal(y, v)


def test_parts_are_disjoint_and_cover_everything():
    data = image_data(1000)
    assert data.part_sizes() == {"weights": 450, "architecture": 450, "holdout": 100}
    parts = data.split(0)
    together = torch.cat(list(parts.values()))
    assert torch.equal(together.sort().values, torch.arange(1000))
    assert {k: len(v) for k, v in parts.items()} == data.part_sizes()
    assert not torch.equal(parts["weights"], data.split(1)["weights"])
    assert torch.equal(parts["holdout"], data.split(0)["holdout"])


def test_an_epoch_shows_every_image_of_its_part_at_most_once_and_only_those():
    data = image_data(200, crop=False, flip=False)
    view = batches(data)
    assert view.steps == 90 // 16
    part = view.parts[0]["architecture"]
    mean, scale = view.mean, view.scale
    shown = torch.cat([images for images, _ in view.training("architecture", 0)])
    raw = (shown / scale + mean).round().to(torch.uint8)
    known = {tuple(image.flatten().tolist()): int(n) for n, image in enumerate(data.images)}
    indices = [known[tuple(image.flatten().tolist())] for image in raw]
    assert len(set(indices)) == len(indices) == 80
    assert set(indices) <= set(part.tolist())
    labels = torch.cat([labels for _, labels in view.training("architecture", 0)])
    assert torch.equal(labels, data.labels[indices])


def test_order_and_augmentation_depend_on_seed_part_and_epoch_alone():
    data = image_data()
    view = batches(data, seed=4)
    list(view.training("weights", 0))  # what was drawn before does not matter
    first = torch.cat([x for x, _ in view.training("weights", 3)])
    again = torch.cat([x for x, _ in batches(data, seed=4).training("weights", 3)])
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat([x for x, _ in view.training("weights", 4)]))
    assert not torch.equal(
        first, torch.cat([x for x, _ in batches(data, seed=5).training("weights", 3)])
    )


def test_images_are_normalised_by_the_training_images():
    data = image_data(400)
    view = batches(data)
    everything = (data.images.float() - view.mean) * view.scale
    torch.testing.assert_close(everything.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        everything.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0
    )


def test_a_crop_is_a_shifted_window_of_the_padded_image_and_flips_are_mirrors():
    data = image_data(64, size=16, flip=True, crop=True)
    view = batches(data, batch_size=8)
    shown = torch.cat([x for x, _ in view.training("weights", 0)])
    raw = (shown / view.scale + view.mean).round().to(torch.uint8)
    padded = torch.nn.functional.pad(data.images, [2, 2, 2, 2])  # an eighth of 16
    windows = {}
    for n, image in enumerate(padded):
        for row in range(5):
            for column in range(5):
                window = image[:, row : row + 16, column : column + 16]
                windows[window.numpy().tobytes()] = (n, row, column, False)
                # the image is mirrored first, then shifted within zero padding
                mirrored = image.flip(2)[:, row : row + 16, column : column + 16]
                windows[mirrored.contiguous().numpy().tobytes()] = (n, row, column, True)
    found = [windows[image.contiguous().numpy().tobytes()] for image in raw]
    assert {f[3] for f in found} == {True, False}
    assert len({f[1:3] for f in found}) > 5


def test_cutout_blanks_a_square_clipped_at_the_border():
    data = image_data(200, cutout=6, crop=False, flip=False)
    shown = torch.cat([x for x, _ in batches(data).training("weights", 0)])
    blank = (shown == 0).all(1)  # (B, 16, 16); a normalised pixel is never exactly 0
    areas = blank.sum((1, 2))
    assert areas.max() == 36
    assert areas.min() >= 9  # a corner keeps at least half of each side
    rows, columns = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(rows * columns, areas)


def test_the_holdout_is_evaluated_whole_in_near_equal_batches():
    view = batches(image_data(330))  # 33 held out
    sizes = [len(y) for _, y in view.evaluation("holdout")]
    assert sum(sizes) == 33
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 16


def test_too_few_images_for_a_batch_are_one_clear_line():
    data = image_data(100)
    assert data.steps_per_epoch(45) == 1
    with pytest.raises(DataError, match=r"100 images split into 45 .* search.batch_size 46"):
        data.steps_per_epoch(46)


def test_content_decides_the_hash():
    a, b = image_data(), image_data()
    assert a.content_hash() == b.content_hash()
    b.images[3, 0, 2, 2] ^= 1
    assert a.content_hash() != b.content_hash()


def test_arrays_carry_a_data_set_to_another_process_without_a_copy():
    data = image_data()
    arrays = data.to_arrays()
    arrays["images"].setflags(write=False)  # as they come out of an object store
    back = ImageData.from_arrays(arrays)
    assert back.content_hash() == data.content_hash()
    assert back.images.data_ptr() == data.images.data_ptr()
    assert back.settings == data.settings


@pytest.mark.parametrize(
    ("source", "flips"),
    [
        ("digits", False), ("hub:ylecun/mnist", False), ("hub:zalando/fashion_mnist", True),
        ("hub:uoft-cs/cifar10", True), ("parquet:/x/digits/flowers", True),
    ],
)  # fmt: skip
def test_flip_auto_spares_what_has_a_reading_direction(source, flips):
    assert DataSettings(source).flips is flips
    assert DataSettings(source, flip=not flips).flips is not flips


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "cifar10"}, "source: 'cifar10' is not allowed; one of digits, parquet:DIR"),
        ({"source": "parquet:"}, "source: 'parquet:' is not allowed"),
        ({"resolution": 10}, "resolution: 10 is not allowed; auto or a multiple of 4"),
        ({"holdout": 0}, "holdout: 0 is not allowed"),
        ({"subset": 0}, "subset: 0 is not allowed"),
        ({"color": "grey"}, "color: 'grey' is not allowed; one of auto, rgb, gray"),
    ],
)
def test_wrong_settings_are_one_clear_line(wrong, message):
    with pytest.raises(ValueError, match=message):
        DataSettings(**wrong)
